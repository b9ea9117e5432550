import type { Fault } from '../../sandbox/src/server.ts'
import { seededRandom } from './kill-nine.ts'

// The plan of one run: requests and faults with their times, drawn from a seed alone.

export const CALLERS = ['alpha', 'beta', 'gamma'] as const
/** Cancels tasks of its own domain only. */
export const RESTRICTED: Caller = 'gamma'
export const OWN_DOMAIN = 'gamma.example'

type Caller = (typeof CALLERS)[number]
type Link = 'record' | 'upstream'

interface CancelStep {
  readonly do: 'cancel'
  readonly replica: number
  readonly caller: Caller
  readonly task: number
  readonly lang: 'en' | 'zh'
  /** Which of the two addresses of the caller. */
  readonly address: 0 | 1
  readonly waitSeconds: number
  /** The caller leaves after that time, if there is no response by then. */
  readonly leavesAfterMs: number | null
}

type ReadStep =
  | { readonly do: 'read the record'; readonly replica: number; readonly task: number }
  | { readonly do: 'read the task'; readonly replica: number; readonly task: number }

export type FaultStep =
  | { readonly do: 'kill'; readonly replica: number; readonly forMs: number }
  | { readonly do: 'stop'; readonly replica: number; readonly forMs: number }
  | { readonly do: 'cut'; readonly replica: number; readonly link: Link }
  | {
      readonly do: 'freeze'
      readonly replica: number
      readonly link: Link
      /** Nothing passes, or no responses. */
      readonly way: 'both' | 'back'
      readonly forMs: number
    }
  | { readonly do: 'refuse'; readonly replica: number; readonly link: Link; readonly forMs: number }
  | { readonly do: 'restart PostgreSQL'; readonly forMs: number }
  | { readonly do: 'freeze PostgreSQL'; readonly forMs: number }
  | { readonly do: 'freeze Redis'; readonly forMs: number }
  | { readonly do: 'step the clock'; readonly replica: number; readonly byMs: number }
  | { readonly do: 'spoil the upstream'; readonly action: string; readonly fault: Fault; readonly times: number }

export type Step = { readonly atMs: number } & (CancelStep | ReadStep | FaultStep)

export interface Plan {
  readonly seed: number
  readonly replicas: number
  /** How long before the first request each task was created, and its domain. */
  readonly tasks: readonly { readonly ageMs: number; readonly domain: string }[]
  /** In the order of their times. */
  readonly steps: readonly Step[]
}

/** Requests and faults begin by then. */
const RUN_MS = 3500
/** Long enough for another replica to decide what a cut-off one has in flight; such a fault begins early. */
const LONG_MS = { least: 3100, most: 3700, fromMs: 1500 } as const
const TASKS = 50
const CANCELS = 70
const READS = 25
const SPOILT = 14
/** Tasks are used one after the other, so that there are some that are not cancelled at any time. */
const TASKS_IN_USE = 8

const UPSTREAM_FAULTS: readonly Fault[] = [
  { reply: 'reset' },
  { reply: 'reset', effect: true },
  { reply: 'stall' },
  { reply: 'stall', effect: true },
  { reply: 'truncate', effect: true },
  { reply: 'not-json', effect: true },
  { reply: 'no-request-id' },
  { reply: 'envelope' },
  { reply: 'slow' },
  { reply: { status: 500, code: 'InternalError' }, effect: true },
  { reply: { status: 503, code: 'ServiceUnavailable' } },
  { reply: { status: 400, code: 'InvalidParameter' } },
  { reply: { status: 400, code: 'Throttling.User' } },
]

const CLOCK_STEPS_MS = [-7_200_000, -2_400_000, -5000, -800, 800, 5000, 2_400_000, 7_200_000]

export const drawPlan = (seed: number): Plan => {
  const random = seededRandom(seed)
  const upTo = (max: number): number => Math.floor(random() * max)
  const oneOf = <T>(values: readonly T[]): T => {
    const value = values[upTo(values.length)]
    if (value === undefined) throw new Error('there is nothing to draw from')
    return value
  }
  const times = <T>(count: number, draw: () => T): readonly T[] => Array.from({ length: count }, draw)
  const replicas = 2 + upTo(2)
  const replica = (): number => upTo(replicas)
  const at = (): number => upTo(RUN_MS)
  // Short ones are more frequent.
  const forMs = (maxMs: number): number => Math.ceil(random() ** 2 * maxMs)

  const taskAt = (atMs: number): number => upTo(TASKS_IN_USE) + Math.floor((atMs / RUN_MS) * (TASKS - TASKS_IN_USE))

  const drawCancel = (atMs: number, task: number, at: number): Step => ({
    atMs,
    do: 'cancel',
    replica: at,
    caller: oneOf(CALLERS),
    task,
    lang: random() < 0.9 ? 'en' : 'zh',
    address: random() < 0.9 ? 0 : 1,
    waitSeconds: random() < 0.15 ? 1 : 0,
    leavesAfterMs: random() < 0.1 ? upTo(300) : null,
  })

  /** Often several cancels of one task at about the same moment. */
  const drawCancels = (): readonly Step[] => {
    const [atMs, to] = [at(), replica()]
    const task = taskAt(atMs)
    const others = random() < 0.4 ? 1 + upTo(2) : 0
    return [
      drawCancel(atMs, task, to),
      ...times(others, () => drawCancel(atMs + upTo(30), task, random() < 0.7 ? to : replica())),
    ]
  }

  const drawRead = (): Step => {
    const atMs = at()
    const kind = random() < 0.7 ? 'read the record' : 'read the task'
    return { atMs, do: kind, replica: replica(), task: taskAt(Math.max(0, atMs - upTo(1000))) }
  }

  const drawSpoilt = (): Step => ({
    atMs: at(),
    do: 'spoil the upstream',
    action: random() < 0.75 ? 'CancelTask' : 'QueryTaskList',
    fault: oneOf(UPSTREAM_FAULTS),
    times: random() < 0.7 ? 1 : 2 + upTo(5),
  })

  const drawFault = (): FaultStep => {
    const link = random() < 0.6 ? 'record' : 'upstream'
    switch (upTo(8)) {
      case 0:
        return { do: 'kill', replica: replica(), forMs: forMs(1000) }
      case 1:
        return { do: 'stop', replica: replica(), forMs: forMs(1500) }
      case 2:
        return { do: 'cut', replica: replica(), link }
      case 3:
        return { do: 'freeze', replica: replica(), link, way: oneOf(['both', 'back']), forMs: forMs(1500) }
      case 4:
        return { do: 'refuse', replica: replica(), link, forMs: forMs(1500) }
      case 5:
        return random() < 0.6
          ? { do: 'restart PostgreSQL', forMs: forMs(800) }
          : { do: 'freeze PostgreSQL', forMs: forMs(1500) }
      case 6:
        return { do: 'freeze Redis', forMs: forMs(1500) }
      default:
        return { do: 'step the clock', replica: replica(), byMs: oneOf(CLOCK_STEPS_MS) }
    }
  }

  /** One replica is cut off for long, alone or beside other faults. */
  const drawLongFault = (): Step => {
    const common = { atMs: upTo(LONG_MS.fromMs), replica: replica() }
    const lastsMs = LONG_MS.least + upTo(LONG_MS.most - LONG_MS.least)
    if (random() < 0.2) return { ...common, do: 'stop', forMs: lastsMs }
    return {
      ...common,
      do: 'freeze',
      link: oneOf(['record', 'upstream']),
      way: oneOf(['both', 'back']),
      forMs: lastsMs,
    }
  }

  const tasks = times(TASKS, () => ({
    ageMs: random() < 0.3 ? upTo(4000) : 0,
    domain: random() < 0.7 ? `${upTo(100)}.${OWN_DOMAIN}` : 'other.example',
  }))
  const steps = [
    ...times(CANCELS, drawCancels).flat(),
    ...times(READS, drawRead),
    ...times(SPOILT, drawSpoilt),
    ...times(2 + upTo(4), () => ({ atMs: at(), ...drawFault() })),
    ...times(random() < 0.6 ? 1 : 0, drawLongFault),
  ]
  return { seed, replicas, tasks, steps: steps.toSorted((a, b) => a.atMs - b.atMs) }
}

export const isFault = (step: Step): step is Step & FaultStep =>
  step.do !== 'cancel' && step.do !== 'read the record' && step.do !== 'read the task'
