import { cpSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { temporaryFolder } from './gateway.ts'
import { ROOT } from './process.ts'

/** Replaces the text, which occurs once in that file of `src`. */
export interface Change {
  readonly file: string
  readonly from: string
  readonly to: string
}

/** Times of the gateway, shortened so that a run takes seconds. */
const TIMES: readonly Change[] = [
  {
    file: 'server.ts',
    from: '{ log, isStartProbed: true }',
    to: `{ log, isStartProbed: true, timings: {
      maintenanceEveryMs: 200, beatEveryMs: 300, settlementPauseMs: () => 150, followUpCallEveryMs: 50,
      followUpQuietMs: 300, lookupTtlMs: 100, sharedStore: { answerMs: 200, connectMs: 500, retryEveryMs: 200 },
    } }`,
  },
  { file: 'time.ts', from: 'SETTLE_RESERVE_MS = 3000', to: 'SETTLE_RESERVE_MS = 800' },
  { file: 'time.ts', from: 'RECORD_RESERVE_MS = 1000', to: 'RECORD_RESERVE_MS = 300' },
  { file: 'tasks/follow-up.ts', from: 'CALL_TIMEOUT_MS = 10_000', to: 'CALL_TIMEOUT_MS = 500' },
  { file: 'tasks/follow-up.ts', from: 'RECORD_TIMEOUT_MS = 10_000', to: 'RECORD_TIMEOUT_MS = 800' },
  { file: 'alibaba/circuit-breaker.ts', from: 'OPEN_MS = 5000', to: 'OPEN_MS = 300' },
  { file: 'alibaba/circuit-breaker.ts', from: 'OPEN_MAX_MS = 40_000', to: 'OPEN_MAX_MS = 600' },
  { file: 'audit/audit-trail.ts', from: 'OUTCOME_WAIT_MS = 1000', to: 'OUTCOME_WAIT_MS = 300' },
  { file: 'audit/audit-trail.ts', from: 'const READ_MS = 5000', to: 'const READ_MS = 800' },
  { file: 'audit/audit-trail.ts', from: 'RETRY_MAX_MS = 5000', to: 'RETRY_MAX_MS = 400' },
  {
    file: 'audit/postgres.ts',
    from: 'connectMs: 4000, lockMs: 2000, statementMs: 4000',
    to: 'connectMs: 500, lockMs: 300, statementMs: 500',
  },
  // From the deadline of a request to the moment at which another replica decides its outcome.
  { file: 'audit/postgres.ts', from: 'MARGIN_MS = 10_000', to: 'MARGIN_MS = 500' },
  { file: 'audit/postgres-connections.ts', from: 'ANSWER_MS = 1000', to: 'ANSWER_MS = 150' },
  // From the last beat of a replica to the moment at which it counts as stopped.
  { file: 'audit/postgres-ends.ts', from: 'at - 30000', to: 'at - 1500' },
]

/** Settings of a copy, which allow the same share for each step of a request as the defaults. */
export const SHORT_TIMES = { UPSTREAM_TIMEOUT_MS: '700', REQUEST_TIMEOUT_MS: '2000' } as const

/** A wall clock that steps at each SIGUSR2, by the next number in `CLOCK_STEPS`. */
const CLOCK = `
  const now = Date.now
  const steps = (process.env.CLOCK_STEPS ?? '').split(',').map(Number)
  let ahead = 0
  Date.now = () => now() + ahead
  process.on('SIGUSR2', () => { ahead += steps.shift() ?? 0 })
`

/** A copy of the gateway's source with short times and these changes. */
export const copySource = async (t: TestContext, changes: readonly Change[] = []) => {
  const folder = await temporaryFolder(t)
  for (const linked of ['node_modules', 'public', 'openapi.yaml']) symlinkSync(join(ROOT, linked), join(folder, linked))
  cpSync(join(ROOT, 'package.json'), join(folder, 'package.json'))
  cpSync(join(ROOT, 'src'), join(folder, 'src'), { recursive: true })
  for (const { file, from, to } of [...TIMES, ...changes]) {
    const path = join(folder, 'src', file)
    const parts = readFileSync(path, 'utf8').split(from)
    if (parts.length !== 2) throw new Error(`src/${file} has ${parts.length - 1} times: ${from}`)
    writeFileSync(path, parts.join(to))
  }
  const clock = join(folder, 'clock.mjs')
  writeFileSync(clock, CLOCK)
  return { entry: join(folder, 'src/server.ts'), execArgv: ['--import', clock] }
}

export type Source = Awaited<ReturnType<typeof copySource>>
