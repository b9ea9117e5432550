import type { Credentials } from '../../src/alibaba/signing.ts'
import { ACTION_NAMES, type ActionResult, runAction } from './actions.ts'
import type { SandboxCall } from './calls.ts'
import { carriesOut, type Fault, type Faults, isRightAnswer } from './faults.ts'
import type { SignedRequest } from './signed-request.ts'
import type { TaskStore } from './tasks.ts'
import { createNonces, verify } from './verification.ts'

/** A verified or refused request, decided on, before anything is sent. */
export interface Decision {
  readonly signedRequest: SignedRequest
  readonly fault: Fault | undefined
  readonly result: ActionResult
  readonly atMs: number
}

interface DecisionParts {
  /** By AccessKeyId, as of now. */
  readonly keys: ReadonlyMap<string, Credentials>
  readonly tasks: TaskStore
  readonly faults: Faults
  /** Milliseconds since the epoch: what tasks live by. */
  now(): number
  /** The same, as the sandbox's own clock shows it: what signatures are judged by. */
  clock(): number
}

/** Verifies, takes the fault that waits for the action, and carries the action out where the fault allows it. */
export const createDecide = ({ keys, tasks, faults, now, clock }: DecisionParts) => {
  const nonces = createNonces()

  return (signedRequest: SignedRequest): Decision => {
    const refusal = verify(signedRequest, { keys, nowMs: clock(), nonces, actions: ACTION_NAMES })
    if (refusal !== null)
      return { signedRequest, fault: undefined, result: { failure: refusal, fields: {}, effect: false }, atMs: now() }
    const fault = faults.take(signedRequest.action)
    const carryOut = fault === undefined || carriesOut(fault)
    const atMs = now()
    const result = runAction(signedRequest.action, { params: signedRequest.params, tasks, nowMs: atMs, carryOut })
    return { signedRequest, fault, result, atMs }
  }
}

export const callOf = (decision: Decision): SandboxCall => {
  const { action, params, signatureVersion, nonce } = decision.signedRequest
  const { result, atMs } = decision
  return { action, params, signatureVersion, nonce, effect: result.effect, code: codeOf(decision), atMs }
}

/** The failure code that the caller is told, if it is told any. */
const codeOf = ({ fault, result }: Decision): string | null => {
  if (fault !== undefined && typeof fault.reply === 'object') return fault.reply.code
  if (fault !== undefined && !isRightAnswer(fault.reply)) return null
  return result.failure?.code ?? null
}
