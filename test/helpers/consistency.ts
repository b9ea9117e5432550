import assert from 'node:assert/strict'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import type { Sandbox } from '../../sandbox/src/server.ts'
import {
  asOperator,
  cancelCalls,
  type Started,
  type StartOptions,
  startGateway,
  startSandbox,
  temporaryFolder,
} from './gateway.ts'
import type { RunningGateway } from './process.ts'
import type { FaultRow } from './reliability-doc.ts'

// Compares the response to the caller, the audit record and the state of the upstream.

export interface WatchedOptions extends StartOptions {
  /** Starts a proxy before the sandbox and returns its address. */
  readonly proxy?: (t: TestContext, upstream: Sandbox) => Promise<string>
}

/** A gateway whose sandbox checks that each cancel request has an intent in the audit trail. */
export const startWatchedGateway = async (t: TestContext, options: WatchedOptions = {}): Promise<Started> => {
  const { proxy, env, sandbox, ...rest } = options
  const auditPath = join(await temporaryFolder(t), 'audit.db')
  const upstream = await startSandbox(t, { ...sandbox, auditPath })
  const url = proxy === undefined ? upstream.url : await proxy(t, upstream)
  const started = await startGateway(t, {
    ...rest,
    env: { UPSTREAM_URL: url, AUDIT_URL: `sqlite:${auditPath}`, ...env },
  })
  return { ...started, upstream, auditPath }
}

/** How many cancel requests reached the upstream, and whether it cancelled the task. */
export const upstreamState = (upstream: Sandbox, taskNo: string) => ({
  calls: cancelCalls(upstream).length,
  cancelled: (upstream.task(taskNo)?.cancelStatus ?? 'INIT') !== 'INIT',
})

export interface GatewayWithSandbox {
  readonly gateway: RunningGateway
  readonly sandbox: Sandbox
}

export const describeResponse = (
  status: number,
  { code, outcome, cancelStatus }: Readonly<Record<string, unknown>>,
): string => [status, code ?? cancelStatus, outcome].filter((part) => part !== undefined).join(' ')

/** Whether an outcome states that the upstream cancelled the task. Other outcomes state neither. */
export const MEANS_CANCELLED: Readonly<Record<string, boolean>> = {
  accepted: true,
  cancelled: true,
  failed: false,
  rejected: false,
  refused: false,
}

/**
 * Cancels a new task during a fault, and asserts that the response, the audit record and the upstream agree.
 * After `heal` the audit trail must be readable.
 */
export const cancelDuringFault = async (
  { gateway, sandbox }: GatewayWithSandbox,
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
  assert.equal(MEANS_CANCELLED[outcome] ?? isCancelled, isCancelled, `the record says ${outcome}`)
  return {
    fault,
    request: 'DELETE',
    answer: describeResponse(status, body),
    record: records[0]?.settledBy === 'query' ? `${outcome}, by a query` : outcome,
    upstream: `${received.length} received, ${isCancelled ? 'cancelling' : 'not cancelled'}`,
  }
}
