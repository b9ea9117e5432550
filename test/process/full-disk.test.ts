import assert from 'node:assert/strict'
import { closeSync, openSync, rmSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { openSqliteStore } from '../../src/audit/sqlite.ts'
import { intentOf, outcomeOf } from '../helpers/audit-events.ts'
import { asOperator, cancelCalls, eventually } from '../helpers/gateway.ts'
import { prepare, type RunningGateway, startProcess, waitForCancels } from '../helpers/process.ts'
import { mountTmpfs, requires } from '../helpers/requirements.ts'
import { startResponseHoldingProxy } from '../helpers/upstream-proxy.ts'

const PAGE = Buffer.alloc(4096)

/** Fills a file system, page by page. Returns a function that frees the space. */
const fill = (folder: string): (() => void) => {
  const path = join(folder, 'filler')
  const file = openSync(path, 'w')
  try {
    for (;;) writeSync(file, PAGE)
  } catch (error) {
    assert.equal(error instanceof Error && 'code' in error && error.code, 'ENOSPC')
  } finally {
    closeSync(file)
  }
  return () => rmSync(path)
}

const becomes = ({ api }: RunningGateway, status: number) =>
  eventually(async () => {
    const { body, status: current } = await api.get('/readyz')
    return current === status ? body : undefined
  })

test('on a full disk nothing is sent and the gateway is not ready, until there is room again', async (t) => {
  if (!requires(t, 'mount')) return
  const folder = mountTmpfs(t, 'size=2m')
  const { sandbox, env } = await prepare(t, folder)
  const gateway = await startProcess(t, env)
  const taskNo = sandbox.addTask()

  const makeRoom = fill(folder)
  const refused = await gateway.api.delete(`/tasks/${taskNo}`).set(asOperator)
  const notReady = await becomes(gateway, 503)
  makeRoom()
  await becomes(gateway, 200)
  const sentBefore = cancelCalls(sandbox).length
  const accepted = await gateway.api.delete(`/tasks/${taskNo}`).set(asOperator)

  assert.deepEqual(
    [refused.status, refused.body.code, refused.body.outcome],
    [503, 'audit-unavailable', 'not-cancelled'],
  )
  assert.equal(notReady.code, 'audit-unavailable')
  assert.deepEqual([sentBefore, sandbox.violations], [0, 0])
  assert.equal(accepted.status, 202)
  assert.deepEqual(
    (await gateway.records()).map(({ outcome }) => outcome),
    ['accepted'],
  )
})

test('an outcome that finds the disk full is answered truthfully and written once there is room', async (t) => {
  if (!requires(t, 'mount')) return
  const folder = mountTmpfs(t, 'size=2m')
  const { sandbox, env } = await prepare(t, folder)
  const proxy = await startResponseHoldingProxy(t, sandbox.url)
  const gateway = await startProcess(t, { ...env, UPSTREAM_URL: proxy.url })
  const taskNo = sandbox.addTask()

  const answer = gateway.api.delete(`/tasks/${taskNo}`).set(asOperator).then()
  await waitForCancels(sandbox, 1)
  const makeRoom = fill(folder)
  proxy.release()
  const { status } = await answer
  await gateway.line('the outcome of a cancellation could not be written; the write is retried')
  const [meanwhile] = await gateway.records()
  makeRoom()
  const [settled] = await eventually(async () => {
    const settled = await gateway.records({ outcome: 'accepted' })
    return settled.length > 0 ? settled : undefined
  })

  assert.equal(status, 202)
  assert.equal(meanwhile?.outcome, 'pending')
  assert.equal(settled?.id, meanwhile?.id)
  assert.equal(sandbox.violations, 0)
})

test('a record is written and pruned where there is no room for temporary files', async (t) => {
  if (!requires(t, 'mount')) return
  const { sandbox, env, auditPath } = await prepare(t)
  const store = await openSqliteStore(auditPath)
  const old = Array.from({ length: 600 }, () => intentOf({ requestedAtMs: Date.now() - 60 * 24 * 3_600_000 }))
  await store.append(
    old,
    old.map((intent) => outcomeOf(intent)),
  )
  await store.close()
  const folder = mountTmpfs(t, 'size=64k,nr_inodes=1')

  const gateway = await startProcess(t, { ...env, AUDIT_RETENTION_DAYS: '30', SQLITE_TMPDIR: folder })
  const { status } = await gateway.api.delete(`/tasks/${sandbox.addTask()}`).set(asOperator)
  await eventually(async () => ((await gateway.records()).length === 1 ? true : undefined))

  assert.equal(status, 202)
})
