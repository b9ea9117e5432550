/** Each code is sent to the provider once, by the sign-in that it completes. `T`: the provider's response to it. */
export interface SentCodes<T> {
  /** Sends the code, or joins the request that has sent it. @throws CodeUsed where the sign-in is complete */
  once(state: string, send: () => Promise<T>): Promise<T>
  /** The code was not sent after all. */
  forget(state: string): void
  /** The sign-in is complete. Returns false where it was so before. */
  complete(state: string): boolean
}

/** The sign-in of that code was completed before. */
export class CodeUsed extends Error {}

/** A replica completes no more sign-ins in that time. Beyond, the provider refuses a code that it has seen. */
const CODES_MAX = 10_000

/** Each is remembered for `keptMs`, during which its sign-in can come back. */
export const createSentCodes = <T>(keptMs: number): SentCodes<T> => {
  const sent = new Map<string, { readonly response: Promise<T> | null; readonly untilMs: number }>()

  // All entries have the same lifetime, so the oldest come first.
  const sweep = (): void => {
    for (const [state, { untilMs }] of sent) {
      if (sent.size <= CODES_MAX && performance.now() < untilMs) return
      sent.delete(state)
    }
  }

  return {
    once: async (state, send) => {
      const known = sent.get(state)
      if (known?.response === null) throw new CodeUsed()
      if (known !== undefined) return await known.response
      const response = send()
      sent.set(state, { response, untilMs: performance.now() + keptMs })
      sweep()
      return await response
    },
    forget: (state) => void sent.delete(state),
    complete: (state) => {
      const known = sent.get(state)
      if (known?.response === null) return false
      sent.set(state, { response: null, untilMs: known?.untilMs ?? performance.now() + keptMs })
      return true
    },
  }
}
