import { randomUUID } from 'node:crypto'
import type { CancellationOptions, CancelRequest } from '../../src/tasks/cancel.ts'
import { deadlineIn } from '../../src/time.ts'

/** A request of one operator from one address, as the operation sees it, where the test says nothing else. */
export const cancelRequest = (taskNo: string, changes: Partial<CancelRequest> = {}): CancelRequest => ({
  taskNo,
  caller: { via: 'api-key', issuer: null, name: 'operator', scopes: ['tasks:cancel'], domains: null, taskTypes: null },
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

/** For the operation alone: no task shows anything, every caller may do all, and nothing is looked at later. */
export const STUB_DEPENDENCIES: Pick<CancellationOptions, 'lookup' | 'permissions' | 'settlement' | 'refusalLimit'> = {
  lookup: { find: async () => null, invalidate: () => {} },
  permissions: { forCancel: async () => ({ kind: 'granted' }) },
  settlement: { track: () => {} },
  refusalLimit: { max: 1, windowMs: 60_000 },
}
