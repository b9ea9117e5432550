import type { TestContext } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import type { Sandbox } from '../../sandbox/src/server.ts'
import type { Env } from '../../src/config.ts'
import { MEANS_CANCELLED } from './consistency.ts'
import { asOperator, cancelCalls, eventually } from './gateway.ts'
import { allRecords, type Line, type RunningGateway, startProcess } from './process.ts'

/** A pseudorandom number generator from 0 to 1. Mulberry32. */
export const seededRandom = (seed: number) => {
  let state = seed >>> 0
  return (): number => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

export interface KillOptions {
  readonly kills: number
  readonly seed: number
  readonly sandbox: Sandbox
  readonly env: Env
  /** Called after each restart. */
  readonly onRestart?: (kill: number) => void
}

/** A cancel request, and its response if there was one. */
export interface CancelAttempt {
  readonly taskNo: string
  readonly answer: { readonly status: number; readonly outcome: unknown } | null
}

/** Comparison of the sandbox, the audit records and the responses to callers. */
export interface KillReport {
  readonly requests: number
  readonly responses: number
  readonly cancelled: number
  readonly byOutcome: Readonly<Record<string, number>>
  /** One sentence for each. */
  readonly contradictions: readonly string[]
}

const CONCURRENT_CALLERS = 16

/** A record may stay pending this long after the last kill: more than the deadline of its request. */
const SETTLE_TIMEOUT_MS = 30_000
const POLL_INTERVAL_MS = 250

/** Faults of some cancel requests; their response and their effect upstream can differ. */
const UPSTREAM_FAULTS = [
  { reply: 'reset' },
  { reply: 'reset', effect: true },
  { reply: { status: 500, code: 'InternalError' }, effect: true },
  { reply: { status: 400, code: 'InvalidParameter' } },
  { reply: 'slow' },
] as const

/**
 * Sends cancel requests to a gateway, kills it at random moments and restarts it. Then compares its audit records with
 * the sandbox and with the responses to callers.
 */
export const killRepeatedly = async (t: TestContext, options: KillOptions): Promise<KillReport> => {
  const { kills, seed, sandbox, env, onRestart = () => undefined } = options
  const random = seededRandom(seed)
  const attempts: CancelAttempt[] = []
  let gateway = await startProcess(t, env)
  for (let kill = 1; kill <= kills; kill += 1) {
    const burst = startCallers(gateway, sandbox, random)
    await burst.after(1 + Math.floor(random() * 40))
    gateway.kill('SIGKILL')
    attempts.push(...(await burst.end()))
    await Promise.all([gateway.ended, sandbox.socketsClosed()])
    gateway = await startProcess(t, env)
    onRestart(kill)
  }
  const timeoutAt = performance.now() + SETTLE_TIMEOUT_MS
  // With a shared audit trail another gateway settles the record after the deadline of the request.
  for (let records = await allRecords(gateway); ; records = await allRecords(gateway)) {
    if (!records.some(isPending) || performance.now() > timeoutAt) return compareAccounts(attempts, sandbox, records)
    await delay(POLL_INTERVAL_MS)
  }
}

export const isPending = ({ outcome }: Line): boolean => outcome === 'pending'

export const compareAccounts = (
  attempts: readonly CancelAttempt[],
  sandbox: Sandbox,
  records: readonly Line[],
): KillReport => {
  const isCancelled = (taskNo: string): boolean => sandbox.task(taskNo)?.cancelStatus !== 'INIT'
  const recorded = new Map(records.map(({ taskNo, outcome }) => [String(taskNo), String(outcome)]))
  const received = new Set(cancelCalls(sandbox).map(({ params }) => params.TaskNo ?? ''))
  const contradictions = [
    ...records.filter(isPending).map(({ taskNo }) => `${taskNo} is still pending`),
    ...[...received].filter((taskNo) => !recorded.has(taskNo)).map((taskNo) => `${taskNo} was sent without a record`),
    ...[...recorded]
      .filter(
        ([taskNo, outcome]) =>
          MEANS_CANCELLED[outcome] !== undefined && MEANS_CANCELLED[outcome] !== isCancelled(taskNo),
      )
      .map(([taskNo, outcome]) => `${taskNo} is ${outcome} on record, and the upstream disagrees`),
    ...attempts
      .filter(({ taskNo, answer }) => answer !== null && contradicts(answer, isCancelled(taskNo)))
      .map(({ taskNo, answer }) => `the response about ${taskNo} was ${JSON.stringify(answer)}`),
    ...attempts
      .filter(
        ({ taskNo, answer }) =>
          answer !== null && answer.status < 300 && MEANS_CANCELLED[recorded.get(taskNo) ?? ''] !== true,
      )
      .map(({ taskNo }) => `${taskNo} was answered as accepted and is ${recorded.get(taskNo)} on record`),
  ]
  const byOutcome: Record<string, number> = {}
  for (const outcome of recorded.values()) byOutcome[outcome] = (byOutcome[outcome] ?? 0) + 1
  return {
    requests: attempts.length,
    responses: attempts.filter(({ answer }) => answer !== null).length,
    cancelled: attempts.filter(({ taskNo }) => isCancelled(taskNo)).length,
    byOutcome,
    contradictions: records.length === recorded.size ? contradictions : [...contradictions, 'a task has two records'],
  }
}

const contradicts = ({ status, outcome }: NonNullable<CancelAttempt['answer']>, isCancelled: boolean): boolean =>
  status < 300 ? !isCancelled : outcome === 'not-cancelled' && isCancelled

/** Starts callers that cancel one task after the other until the gateway ends. */
const startCallers = (gateway: RunningGateway, sandbox: Sandbox, random: () => number) => {
  const attempts: CancelAttempt[] = []
  let begun = 0
  let isOver = false
  const ask = async (): Promise<void> => {
    while (!isOver) {
      const taskNo = sandbox.addTask()
      const odd = UPSTREAM_FAULTS[Math.floor(random() * 4 * UPSTREAM_FAULTS.length)]
      if (odd !== undefined) sandbox.fault('CancelTask', odd)
      begun += 1
      const answer = await sendCancel(gateway.url, taskNo)
      isOver ||= answer === null
      attempts.push({ taskNo, answer })
    }
  }
  const callers = Array.from({ length: CONCURRENT_CALLERS }, ask)
  return {
    after: (count: number) => eventually(async () => (begun >= count || isOver ? true : undefined)),
    end: async () => {
      await Promise.all(callers)
      sandbox.clearFaults()
      return attempts
    },
  }
}

const sendCancel = async (url: string, taskNo: string): Promise<CancelAttempt['answer']> => {
  try {
    const answer = await fetch(`${url}/tasks/${taskNo}`, { method: 'DELETE', headers: asOperator })
    const { outcome } = Object(await answer.json())
    return { status: answer.status, outcome }
  } catch {
    return null
  }
}
