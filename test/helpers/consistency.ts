import assert from 'node:assert/strict'
import type { Sandbox } from '../../sandbox/src/server.ts'
import { asOperator } from './gateway.ts'
import type { Listening } from './process.ts'
import type { FaultRow } from './reliability-doc.ts'

export interface Watched {
  readonly gateway: Listening
  readonly sandbox: Sandbox
}

export const answerOf = (status: number, { code, outcome, cancelStatus }: Readonly<Record<string, unknown>>): string =>
  [status, code ?? cancelStatus, outcome].filter((part) => part !== undefined).join(' ')

/** What each outcome on record says of upstream; nothing where it is not there. */
export const CLAIMS: Readonly<Record<string, boolean>> = {
  accepted: true,
  cancelled: true,
  failed: false,
  rejected: false,
  refused: false,
}

/**
 * Cancels a task of its own, during which something may happen, and holds against each other what the caller, the record
 * and upstream know of it. Whatever keeps the record from being read must be over by the end of `heal`.
 */
export const cancelUnder = async (
  { gateway, sandbox }: Watched,
  fault: string,
  heal: (taskNo: string) => Promise<void> = async () => undefined,
): Promise<FaultRow> => {
  const taskNo = sandbox.addTask()
  const { status, body } = await gateway.api.delete(`/tasks/${taskNo}`).set(asOperator)
  await heal(taskNo)
  const records = await gateway.records({ taskNo })
  const isCancelled = sandbox.task(taskNo)?.cancelStatus !== 'INIT'
  const received = sandbox.calls.filter(({ action, params }) => action === 'CancelTask' && params.TaskNo === taskNo)
  if (status < 300) assert.ok(isCancelled, 'the answer claims what upstream does not know')
  if (body.outcome === 'not-cancelled') assert.ok(!isCancelled, 'the answer denies what upstream has done')
  assert.ok(records.length === 1 || (records.length === 0 && received.length === 0), 'sent without a record')
  const outcome = String(records[0]?.outcome ?? '–')
  assert.equal(CLAIMS[outcome] ?? isCancelled, isCancelled, `the record says ${outcome}`)
  return {
    fault,
    request: 'DELETE',
    answer: answerOf(status, body),
    record: records[0]?.settledBy === 'query' ? `${outcome}, by a query` : outcome,
    upstream: `${received.length} received, ${isCancelled ? 'cancelling' : 'not cancelled'}`,
  }
}
