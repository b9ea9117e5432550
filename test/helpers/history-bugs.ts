import type { Change } from './history-source.ts'

/** A bug that is planted in a copy of the source, and what the checker of histories says about it. */
export interface Bug {
  readonly name: string
  readonly changes: readonly Change[]
  readonly shows: RegExp
}

export const BUGS: readonly Bug[] = [
  {
    name: 'send before the intent',
    shows: /was sent without an intent/,
    changes: [
      {
        file: 'tasks/cancel.ts',
        from: `    await tracer.span('record intent', 'internal', () =>
      trail.recordIntent(intent, request.deadline.minus(SETTLE_RESERVE_MS)),
    )
    const call = joinCall(request, clientIp)
`,
        to: `    const call = joinCall(request, clientIp)
    await trail.recordIntent(intent, request.deadline.minus(SETTLE_RESERVE_MS))
`,
      },
    ],
  },
  {
    name: 'lose an outcome on failover',
    shows: /answered .* is (unknown|.* by a query) on record/,
    changes: [
      {
        file: 'audit/audit-trail.ts',
        from: "if (kindOf(error) === 'invalid' && (intent === undefined || intents.length > 0)) throw error",
        to: 'throw error',
      },
    ],
  },
  {
    name: 'retry an ambiguous call',
    shows: /is one more than its requests allow/,
    changes: [
      {
        file: 'alibaba/client.ts',
        from: "return attempt.operation === 'query' ? backoffMs(attempt.number, random) : null",
        to: 'return backoffMs(attempt.number, random)',
      },
    ],
  },
  {
    name: 'share across callers',
    shows: /was not sent with the identity of its caller/,
    changes: [
      {
        file: 'tasks/cancel.ts',
        from: 'JSON.stringify([taskNo, caller.via, caller.issuer, caller.name, clientIp, lang])',
        to: 'JSON.stringify([taskNo, lang])',
      },
    ],
  },
  {
    name: 'poll result overrules an answer',
    shows: /answered .* is .* by a query on record/,
    changes: [{ file: 'audit/precedence.ts', from: 'settled_by IS NOT NULL AND 0 < (', to: 'false AND 0 < (' }],
  },
]
