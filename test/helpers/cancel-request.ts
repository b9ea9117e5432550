import { randomUUID } from 'node:crypto'
import type { CancellationOptions, CancelRequest } from '../../src/tasks/cancel.ts'
import { deadlineIn } from '../../src/time.ts'

/** A cancel request of one operator from one address, with the given changes. */
export const cancelRequest = (taskNo: string, changes: Partial<CancelRequest> = {}): CancelRequest => ({
  taskNo,
  caller: {
    ...{ via: 'api-key', issuer: null, name: 'operator', displayName: null },
    ...{ scopes: ['tasks:cancel'], domains: null, taskTypes: null },
  },
  clientIp: '203.0.113.7',
  peerIp: '203.0.113.7',
  userAgent: null,
  lang: 'en',
  gatewayRequestId: randomUUID(),
  deadline: deadlineIn(15_000),
  signal: new AbortController().signal,
  waitMs: 0,
  ...changes,
})

/** No task is found, every caller has permission, and nothing is settled in the background. */
export const STUB_DEPENDENCIES: Pick<CancellationOptions, 'lookup' | 'permissions' | 'followUp' | 'refusalLimit'> = {
  lookup: { find: async () => null, invalidate: () => {} },
  permissions: { forCancel: async () => ({ kind: 'granted' }) },
  followUp: { track: () => {} },
  refusalLimit: { max: 1, windowMs: 60_000 },
}
