import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { startGateway } from '../helpers/gateway.ts'
import { killRepeatedly } from '../helpers/kill-nine.ts'
import { usePostgres } from '../helpers/postgres.ts'
import { prepare } from '../helpers/process.ts'
import { writeFigures } from '../helpers/reliability-doc.ts'
import { requires } from '../helpers/requirements.ts'

// On demand with more kills and another seed: npm run kills.

const KILLS = Number(process.env.KILLS ?? 3)
const SEED = Number(process.env.SEED ?? 7)

/** Requests end soon. */
const TIMES = { UPSTREAM_TIMEOUT_MS: '1000', REQUEST_TIMEOUT_MS: '4500' }

const servers = usePostgres()

const figures: Record<string, string | number>[] = []
after(() => writeFigures('kills', figures))

for (const engine of ['SQLite', 'PostgreSQL'] as const) {
  test(`killed at random moments, a gateway with its record on ${engine} loses nothing and claims nothing`, async (t) => {
    if (engine === 'PostgreSQL' && !requires(t, 'postgres')) return
    const { sandbox, env } = await prepare(t)
    const database = engine === 'PostgreSQL' ? await (await servers(t)).database() : null
    const places =
      database === null ? {} : { AUDIT_URL: database.url('gateway'), AUDIT_ADMIN_URL: database.url('record_owner') }
    // Another gateway with the same audit trail, which must not touch the requests in flight of the killed one.
    if (database !== null) await startGateway(t, { env: places, overrides: { timings: { maintenanceEveryMs: 100 } } })
    const report = await killRepeatedly(t, {
      kills: KILLS,
      seed: SEED,
      sandbox,
      env: { ...env, ...TIMES, ...places },
      onRestart: (kill) => (kill % 10 === 0 ? t.diagnostic(`${kill} of ${KILLS} kills on ${engine}`) : undefined),
    })
    const { requests, responses, cancelled, byOutcome, contradictions } = report
    const { accepted = 0, unknown = 0, pending = 0 } = byOutcome
    const other = Object.values(byOutcome).reduce((sum, count) => sum + count, 0) - accepted - unknown - pending
    const row = {
      Database: engine,
      Kills: KILLS,
      Cancels: requests,
      Answered: responses,
      'Carried out': cancelled,
      'Outcome: accepted': accepted,
      'not cancelled': other,
      unknown,
      pending,
      Contradictions: contradictions.length,
    }
    t.diagnostic(`seed ${SEED}: ${JSON.stringify(row)}`)
    figures.push(row)
    assert.deepEqual(contradictions, [])
    assert.ok(responses > 0 && responses < requests)
    if (engine === 'SQLite') assert.equal(sandbox.violations, 0)
  })
}
