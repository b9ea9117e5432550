export const FAULT_NAMES = [
  'stall',
  'reset',
  'truncate',
  'not-json',
  'huge',
  'redirect',
  'no-request-id',
  'envelope',
  'slow',
  'right',
  'wrong-total',
] as const

export type FaultName = (typeof FAULT_NAMES)[number]

/** A failure body with any code. */
export interface FailureReply {
  readonly code: string
  readonly status: number
  readonly message?: string
  readonly headers?: Readonly<Record<string, string>>
}

export type FaultReply = FaultName | FailureReply

export interface Fault {
  readonly reply: FaultReply
  /** Is the action carried out before the reply goes wrong? Only a right answer does so when nothing is said. */
  readonly effect?: boolean
}

export interface Faults {
  add(action: string, fault: Fault, times: number): void
  /** The fault that the next request of the action meets; it is used up by that. */
  take(action: string): Fault | undefined
  clear(): void
}

/**
 * These give the right answer, only in an unusual way; `right` in the usual one, before a fault that is to come later.
 */
const RIGHT_ANSWERS: readonly FaultReply[] = ['envelope', 'slow', 'right']

export const isRightAnswer = (reply: FaultReply): boolean => RIGHT_ANSWERS.includes(reply)

export const carriesOut = ({ reply, effect = isRightAnswer(reply) }: Fault): boolean => effect

export const createFaults = (): Faults => {
  const queues = new Map<string, { readonly fault: Fault; times: number }[]>()

  return {
    add: (action, fault, times) => {
      if (!(times >= 1)) throw new Error('times must be at least 1')
      queues.set(action, [...(queues.get(action) ?? []), { fault, times }])
    },

    take: (action) => {
      const queue = queues.get(action)
      const next = queue?.[0]
      if (queue === undefined || next === undefined) return undefined
      next.times -= 1
      if (next.times < 1) queue.shift()
      return next.fault
    },

    clear: () => queues.clear(),
  }
}
