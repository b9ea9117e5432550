import assert from 'node:assert/strict'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { openSqliteStore } from '../../src/audit/sqlite.ts'
import { backUp } from '../../src/audit/sqlite-backup.ts'
import { intentOf } from '../helpers/audit-events.ts'
import { temporaryFolder } from '../helpers/gateway.ts'

test('progress is reported while a copy is made, and one that is interrupted leaves nothing behind', async (t) => {
  const [folder, elsewhere] = [await temporaryFolder(t), await temporaryFolder(t)]
  const path = join(folder, 'audit.db')
  const store = await openSqliteStore(path)
  t.after(store.close)
  await store.append(
    Array.from({ length: 8000 }, () => intentOf()),
    [],
  )
  const target = join(elsewhere, 'copy.db')
  const shares: number[] = []
  const interruption = new AbortController()
  const interrupt = (share: number): void => {
    shares.push(share)
    if (shares.length === 2) interruption.abort()
  }
  const interrupted = await backUp({ path, target, onProgress: interrupt, signal: interruption.signal })

  assert.deepEqual(interrupted, { ok: false, failure: 'interrupted', code: 'ABORTED' })
  assert.equal(shares.length, 2)
  for (const share of shares) assert.ok(share > 0 && share < 1, String(share))
  assert.deepEqual(await readdir(elsewhere), [])
  const whole = await backUp({ path, target, onProgress: () => undefined, signal: new AbortController().signal })
  assert.equal(whole.ok && whole.cancellations, 8000)
  assert.deepEqual(await readdir(elsewhere), ['copy.db'])
})
