/** A request as the sandbox understood it, and what it came to. */
export interface SandboxCall {
  readonly action: string
  /** Decoded, without `Signature`. */
  readonly params: Readonly<Record<string, string>>
  readonly signatureVersion: 'rpc-v1' | 'acs3'
  /** Was the cancellation carried out by this call? */
  readonly effect: boolean
  /** The failure code that it was answered with. */
  readonly code: string | null
  readonly nonce: string
  /** When it was decided on, in milliseconds since the epoch. */
  readonly atMs: number
}

export interface Calls {
  readonly list: readonly SandboxCall[]
  record(call: SandboxCall): void
  /** Resolves with the next call of the action. */
  next(action: string): Promise<SandboxCall>
}

/** Only there so that a sandbox that runs for days has a limit. */
const CALLS_KEPT = 100_000

export const createCalls = (): Calls => {
  const list: SandboxCall[] = []
  const waiting = new Map<string, PromiseWithResolvers<SandboxCall>>()

  return {
    list,

    record: (call) => {
      list.push(call)
      if (list.length > CALLS_KEPT) list.shift()
      waiting.get(call.action)?.resolve(call)
      waiting.delete(call.action)
    },

    next: (action) => {
      const waiter = waiting.get(action) ?? Promise.withResolvers<SandboxCall>()
      waiting.set(action, waiter)
      return waiter.promise
    },
  }
}
