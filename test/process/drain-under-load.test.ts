import assert from 'node:assert/strict'
import { Agent, request } from 'node:http'
import { text } from 'node:stream/consumers'
import { type TestContext, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import type { Sandbox } from '../../sandbox/src/server.ts'
import { asOperator, cancelCalls } from '../helpers/gateway.ts'
import { allRecords, prepare, startProcess } from '../helpers/process.ts'
import { writeFigures } from '../helpers/reliability-doc.ts'

const EVERY_MS = 5
/** A busy machine answers fewer: later ones would wait for longer than the gateway accepts requests. */
const IN_FLIGHT_MAX = 40

/** At most two hundred cancels a second, every other one on a connection of its own, until it is stopped. */
const startLoad = (t: TestContext, url: string, sandbox: Sandbox) => {
  const kept = new Agent({ keepAlive: true })
  t.after(() => kept.destroy())
  const asked: Promise<number | string>[] = []
  let inFlight = 0
  const timer = setInterval(() => {
    if (inFlight >= IN_FLIGHT_MAX) return
    inFlight += 1
    const agent = asked.length % 2 === 0 ? kept : new Agent({ keepAlive: false })
    const answer = ask(new URL(`/tasks/${sandbox.addTask()}`, url), agent)
    asked.push(answer.finally(() => (inFlight -= 1)))
  }, EVERY_MS)
  return {
    asked,
    stop: () => {
      clearInterval(timer)
      return Promise.all(asked)
    },
  }
}

/** Status of the whole answer, or how it failed. */
const ask = (url: URL, agent: Agent): Promise<number | string> =>
  new Promise((resolve) => {
    const outgoing = request(url, { method: 'DELETE', headers: asOperator, agent }, async (answer) => {
      const whole = await text(answer).catch(() => null)
      resolve(whole === null ? 'cut short' : (answer.statusCode ?? 0))
    })
    outgoing.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.name))
    outgoing.end()
  })

test('stopped at two hundred cancels a second, it answers and records each that it was sent', async (t) => {
  const { sandbox, env } = await prepare(t)
  const gateway = await startProcess(t, { ...env, SHUTDOWN_DELAY_MS: '8000' })
  const load = startLoad(t, gateway.url, sandbox)
  while (cancelCalls(sandbox).length < 100) await sandbox.nextCall('CancelTask')

  gateway.kill('SIGTERM')
  await gateway.line('stopping')
  const before = load.asked.length
  // By then, well before the delay is over, a load balancer has taken note.
  await delay(1000)
  const answers = await load.stop()
  const { code } = await gateway.ended
  const restarted = await startProcess(t, env)

  const failed = answers.filter((answer) => answer !== 202)
  const row = { Cancels: answers.length, 'After SIGTERM': answers.length - before, Failed: failed.length }
  t.diagnostic(JSON.stringify(row))
  writeFigures('drain', [row])
  assert.deepEqual(failed, [])
  assert.ok(before < answers.length)
  assert.equal(code, 0)
  assert.equal(cancelCalls(sandbox).length, answers.length)
  assert.equal(sandbox.violations, 0)
  const records = await allRecords(restarted)
  assert.deepEqual(
    records.filter(({ outcome }) => outcome !== 'accepted'),
    [],
  )
  assert.equal(records.length, answers.length)
})
