import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import type { Fault, Sandbox } from '../../sandbox/src/server.ts'
import type { Env } from '../../src/config.ts'
import { startWatchedGateway } from '../helpers/consistency.ts'
import { asAuditor, asOperator, cancelCalls, eventually } from '../helpers/gateway.ts'
import { type Issuer, startIssuer } from '../helpers/issuer.ts'
import { apiKeysWith, asCaller, type Restrictions } from '../helpers/restricted-callers.ts'
import { startRequestHoldingProxy } from '../helpers/upstream-proxy.ts'

// Every kind of caller with every kind of task, over the wire: the response, the audit record, and the calls that the
// upstream received.

const RESTRICTIONS = {
  none: {},
  domains: { domains: ['*.a.example'] },
  types: { taskTypes: ['CHG_DNS'] },
  both: { domains: ['*.a.example'], taskTypes: ['CHG_DNS'] },
  nothing: { domains: [], taskTypes: [] },
} as const satisfies Record<string, Restrictions>

type Restriction = keyof typeof RESTRICTIONS

const RESTRICTION_NAMES = ['none', 'domains', 'types', 'both', 'nothing'] as const

/** As many as two pages hold. */
const LIMIT = 1001

const inside = (count: number): readonly string[] => Array.from({ length: count }, (_, index) => `${index}.a.example`)

interface Kind {
  readonly domains: readonly string[]
  readonly taskType?: string
  /** Faults of the reads of its details, in order; the last one stays. */
  readonly faults?: readonly Fault[]
  /** The callers that may cancel it. */
  readonly allowed: readonly Restriction[]
}

const RESET: Fault = { reply: 'reset' }

const KINDS: Readonly<Record<string, Kind>> = {
  'a detail inside': { domains: inside(1), allowed: ['none', 'domains', 'types', 'both'] },
  'no details': { domains: [], allowed: ['none'] },
  '1,001 details inside': { domains: inside(1001), allowed: ['none', 'domains', 'types', 'both'] },
  'a foreign domain on the last page': { domains: [...inside(1000), 'a.example'], allowed: ['none', 'types'] },
  'a detail without a domain': { domains: [...inside(1), ''], allowed: ['none'] },
  'a foreign type': { domains: inside(2), taskType: 'ORDER_RENEW', allowed: ['none', 'domains'] },
  'a reading that breaks off': { domains: inside(1001), faults: [{ reply: 'right' }, RESET], allowed: ['none'] },
  'fewer rows than there should be': { domains: inside(2), faults: [{ reply: 'wrong-total' }], allowed: ['none'] },
  'more details than are read': { domains: inside(LIMIT + 1), allowed: ['none'] },
}

const COMPANIES = ['alone', 'beside an equal request', 'beside that of another caller'] as const

interface Row {
  readonly scope: 'tasks:cancel' | 'tasks:read'
  readonly kind: string
  readonly company: (typeof COMPANIES)[number]
}

/** Without the scope nothing is read, so the task does not matter. */
const ROWS: readonly Row[] = COMPANIES.flatMap((company) => [
  ...Object.keys(KINDS).map((kind): Row => ({ scope: 'tasks:cancel', kind, company })),
  { scope: 'tasks:read', kind: 'a detail inside', company },
])

const REFUSED = { answer: [403, 'forbidden', 'not-cancelled'], record: ['refused', 0] } as const
const ACCEPTED = { answer: [202, undefined, undefined], record: ['accepted', 1] } as const

const expectedOf = (restriction: Restriction, { scope, kind, company }: Row) => {
  const isAllowed = scope === 'tasks:cancel' && KINDS[kind]?.allowed.includes(restriction) === true
  const { answer, record } = isAllowed ? ACCEPTED : REFUSED
  const times = company === 'beside an equal request' ? 2 : 1
  const others = company === 'beside that of another caller' ? 1 : 0
  return {
    answers: [...Array(others).fill(ACCEPTED.answer), ...Array(times).fill(answer)],
    records: [...Array(others).fill(ACCEPTED.record), ...Array(times).fill(record)],
    calls: (isAllowed ? 1 : 0) + others,
    isRead: scope === 'tasks:cancel' && restriction !== 'none',
    violations: 0,
  }
}

const startHeld = async (t: TestContext, env: Env, readFile: () => string) => {
  let proxy: Awaited<ReturnType<typeof startRequestHoldingProxy>> | undefined
  const started = await startWatchedGateway(t, {
    env: { UPSTREAM_MAX_ATTEMPTS: '1', POLICY_DETAILS_LIMIT: String(LIMIT), ...env },
    readFile,
    proxy: async (t, upstream) => {
      proxy = await startRequestHoldingProxy(t, upstream.url)
      return proxy.url
    },
  })
  if (proxy === undefined) throw new Error('no proxy')
  return { ...started, hold: proxy.hold }
}

type Held = Awaited<ReturnType<typeof startHeld>>
type Headers = Readonly<Record<string, string>>

const addTask = (upstream: Sandbox, { domains, taskType, faults = [] }: Kind): string => {
  upstream.clearFaults()
  for (const [index, fault] of faults.entries()) {
    upstream.fault('QueryTaskDetailList', fault, index === faults.length - 1 ? Number.POSITIVE_INFINITY : 1)
  }
  return upstream.addTask({ domains, taskType })
}

const recordsOf = async ({ api }: Held, taskNo: string) => {
  const { body } = await api.get('/cancellations').query({ taskNo }).set(asAuditor)
  return body.items.toReversed()
}

/** Resolves when this many requests are recorded and waiting, or one of them has ended. */
const underWay = async (held: Held, taskNo: string, count: number, asked: readonly Promise<unknown>[]) => {
  const over = Promise.race(asked).then(() => true)
  await eventually(async () => {
    const items: readonly { readonly outcome: string }[] = await recordsOf(held, taskNo)
    const isOver = await Promise.race([over, Promise.resolve(false)])
    return isOver || items.filter(({ outcome }) => outcome === 'pending').length >= count || undefined
  })
}

const observe = async (held: Held, { kind, company }: Row, headers: Headers) => {
  const { api, upstream } = held
  const before = upstream.calls.length
  const taskNo = addTask(upstream, KINDS[kind] ?? { domains: [], allowed: [] })
  const cancel = (headers: Headers) =>
    api
      .delete(`/tasks/${taskNo}`)
      .set(headers)
      .then(({ status, body }) => ({ told: [status, body.code, body.outcome], id: body.cancellationId }))
  const release = held.hold()
  const others = company === 'beside that of another caller' ? [cancel(asOperator)] : []
  await underWay(held, taskNo, others.length, others)
  const own = Array.from({ length: company === 'beside an equal request' ? 2 : 1 }, () => cancel(headers))
  await underWay(held, taskNo, others.length + own.length, own)
  release()
  const answers = await Promise.all([...others, ...own])
  const records = await recordsOf(held, taskNo)
  const ids = new Set(answers.map(({ id }) => id))
  assert.deepEqual(new Set(records.map(({ id }: { id: string }) => id)), ids)
  const calls = upstream.calls.slice(before)
  return {
    answers: answers.map(({ told }) => told),
    records: records.map(({ outcome, attempts }: { outcome: string; attempts: number }) => [outcome, attempts]),
    calls: cancelCalls({ ...upstream, calls }).length,
    isRead: calls.some(({ action }) => action === 'QueryTaskDetailList'),
    violations: upstream.violations,
  }
}

/** How a caller is authenticated, and the place of its restrictions. */
const CALLERS: Readonly<Record<string, (issuer: Issuer, restriction: Restriction) => Caller>> = {
  'an API key': (_issuer, restriction) => ({
    env: {
      API_KEYS: apiKeysWith(
        { name: 'tasks:cancel', scopes: ['tasks:cancel'], ...RESTRICTIONS[restriction] },
        { name: 'tasks:read', scopes: ['tasks:read'], ...RESTRICTIONS[restriction] },
      ),
    },
    headersFor: async (scope) => asCaller(scope),
  }),
  'a token that says it itself': (issuer, restriction) => ({
    env: {
      ...issuer.env,
      ...('domains' in RESTRICTIONS[restriction] ? { DOMAINS_CLAIM: 'domains' } : {}),
      ...('taskTypes' in RESTRICTIONS[restriction] ? { TASK_TYPES_CLAIM: 'taskTypes' } : {}),
    },
    headersFor: (scope) => issuer.bearer({ scope, ...RESTRICTIONS[restriction] }),
  }),
  'a token of a subject with a grant': (issuer, restriction) => ({
    env: { ...issuer.env, GRANTS_FILE: '/grants', DOMAINS_CLAIM: 'domains', TASK_TYPES_CLAIM: 'taskTypes' },
    grants: ['tasks:cancel', 'tasks:read'].map((scope) => ({
      ...{ issuer: issuer.url, sub: scope, scopes: [scope] },
      ...RESTRICTIONS[restriction],
    })),
    // The restrictions in the token itself are ignored.
    headersFor: (scope) => issuer.bearer({ sub: scope, scope: 'tasks:cancel', domains: ['*.a.example', 'a.example'] }),
  }),
}

interface Caller {
  readonly env: Env
  readonly grants?: unknown
  headersFor(scope: Row['scope']): Promise<Headers>
}

for (const [name, callerOf] of Object.entries(CALLERS)) {
  for (const restriction of RESTRICTION_NAMES) {
    test(`${name}, restricted to ${restriction}, cancels that alone`, async (t) => {
      const { env, grants, headersFor } = callerOf(await startIssuer(t), restriction)
      const held = await startHeld(t, env, () => JSON.stringify(grants))
      for (const row of ROWS) {
        const observed = await observe(held, row, await headersFor(row.scope))
        assert.deepEqual(observed, expectedOf(restriction, row), `${row.scope}, ${row.kind}, ${row.company}`)
      }
    })
  }
}
