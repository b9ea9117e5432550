import assert from 'node:assert/strict'
import { Agent, request } from 'node:http'
import { text } from 'node:stream/consumers'
import { type TestContext, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { asOperator } from '../helpers/gateway.ts'
import { addTasks, prepare, startProcess } from '../helpers/process.ts'

// The load that lookups are designed for, against the real process: many callers that watch many tasks.

const POLLERS = 1000
const TASKS = 50
const POLL_EVERY_MS = 1000
const LASTING_MS = 10_000

interface Poll {
  /** How many requests its poller had made before. */
  readonly round: number
  readonly status: number
  readonly durationMs: number
}

const poll = async (agent: Agent, url: string, round: number): Promise<Poll> => {
  const startedAtMs = performance.now()
  const answer = Promise.withResolvers<Poll>()
  const sent = request(url, { agent, headers: asOperator }, async (res) => {
    await text(res)
    answer.resolve({ round, status: res.statusCode ?? 0, durationMs: performance.now() - startedAtMs })
  })
  sent.on('error', answer.reject).end()
  return answer.promise
}

/** Each poller begins at its own moment and asks once a second. */
const pollAll = async (t: TestContext, urlOf: (poller: number) => string): Promise<readonly Poll[]> => {
  const agent = new Agent({ keepAlive: true, maxSockets: 64 })
  t.after(() => agent.destroy())
  const pollFor = async (poller: number): Promise<readonly Poll[]> => {
    const polls: Poll[] = []
    const beganAtMs = performance.now()
    for (let at = (poller / POLLERS) * POLL_EVERY_MS; at < LASTING_MS; at += POLL_EVERY_MS) {
      await delay(Math.max(0, beganAtMs + at - performance.now()))
      polls.push(await poll(agent, urlOf(poller), polls.length))
    }
    return polls
  }
  return (await Promise.all(Array.from({ length: POLLERS }, (_, poller) => pollFor(poller)))).flat()
}

const quantiles = (polls: readonly Poll[], ...shares: readonly number[]): string => {
  const durations = polls.map(({ durationMs }) => durationMs).sort((a, b) => a - b)
  return shares.map((share) => `${durations[Math.floor(durations.length * share)]?.toFixed(1)} ms`).join(', ')
}

test('a thousand pollers on fifty tasks cost the upstream no more than two and a half calls a second', async (t) => {
  const { sandbox, env } = await prepare(t)
  const taskNos = addTasks(sandbox, TASKS)
  const { url } = await startProcess(t, env)
  const beganAtMs = performance.now()
  const polls = await pollAll(t, (poller) => `${url}/tasks/${taskNos[poller % TASKS]}`)
  const seconds = (performance.now() - beganAtMs) / 1000
  // In the first round the process is still cold, and opens its connections.
  const warm = polls.filter(({ round }) => round > 0)
  t.diagnostic(`${polls.length} polls in ${seconds.toFixed(1)} s, ${sandbox.calls.length} calls upstream`)
  t.diagnostic(`p50, p99, p99.9: ${quantiles(warm, 0.5, 0.99, 0.999)}`)
  assert.equal(polls.length, POLLERS * (LASTING_MS / POLL_EVERY_MS))
  assert.ok(polls.every(({ status }) => status === 200))
  assert.ok(sandbox.calls.length <= 2.5 * seconds, String(sandbox.calls.length))
})
