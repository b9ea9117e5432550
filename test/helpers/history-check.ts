// A checker of histories. It knows the contract only: what requests, responses, audit records and calls of CancelTask
// may say about each other. It is a pure function of the events.

/** An entry of the audit trail, as the gateway's own routes show it. */
export interface Entry {
  readonly id: string
  readonly taskNo: string
  readonly caller: string
  readonly clientIp: string
  /** Unique to a request, so that the entry of a request without a response is known too. */
  readonly userAgent: string
  readonly outcome: string
  readonly settledBy: string | null
  readonly requestId: string | null
  readonly isFinal: boolean
}

/** One request to cancel a task. Its address and language are those of no other caller. */
export interface RequestEvent {
  readonly kind: 'request'
  readonly atMs: number
  readonly userAgent: string
  readonly replica: number
  readonly caller: string
  readonly clientIp: string
  readonly lang: string
  readonly taskNo: string
}

/** All times are milliseconds since the epoch, by one clock. */
export type HistoryEvent =
  | RequestEvent
  | {
      readonly kind: 'response'
      readonly atMs: number
      readonly userAgent: string
      readonly status: number
      readonly body: Readonly<Record<string, unknown>>
    }
  /** The moment at which an intent became durable, as the database tells. */
  | { readonly kind: 'intent'; readonly atMs: number; readonly id: string }
  /** A call of CancelTask, as the upstream received it, and whether it cancelled the task. */
  | {
      readonly kind: 'call'
      readonly atMs: number
      readonly taskNo: string
      readonly clientIp: string
      readonly lang: string
      readonly effect: boolean
      /** The failure code of its response. */
      readonly code: string | null
      /** When the task is cancelled, after an effect. */
      readonly cancelledAtMs: number
    }
  /** A reading of the audit trail; the last one shows all of it. */
  | { readonly kind: 'reading'; readonly atMs: number; readonly endMs: number; readonly entries: readonly Entry[] }
  /** The next ends of cancellations, as a reader of their order was told them. */
  | { readonly kind: 'ends'; readonly ids: readonly string[] }
  /** A reading of a task. */
  | { readonly kind: 'task'; readonly endMs: number; readonly taskNo: string; readonly cancelStatus: string }
  /** A replica was ended; what it had not written by then is lost. */
  | { readonly kind: 'killed'; readonly atMs: number; readonly replica: number }
  | { readonly kind: 'crashed'; readonly atMs: number; readonly replica: number }

type Kind = HistoryEvent['kind']
type EventOf<K extends Kind> = Extract<HistoryEvent, { kind: K }>

const SUCCESSES: readonly string[] = ['accepted', 'cancelled', 'too-late']
const DENIALS: readonly string[] = ['refused', 'rejected', 'failed']

interface Problem {
  readonly status: number
  readonly outcome: string
  /** The outcome of the entry; null: there need not be one. */
  readonly entry: string | null
}

const denied = (status: number, entry: string | null): Problem => ({ status, outcome: 'not-cancelled', entry })

/** Section 2 of the contract, as far as a cancel by a known caller can meet it. */
const PROBLEMS: Readonly<Record<string, readonly Problem[]>> = {
  forbidden: [denied(403, 'refused')],
  'task-not-found': [denied(404, 'rejected')],
  'task-not-cancellable': [denied(409, 'rejected')],
  'upstream-credentials-rejected': [denied(502, 'failed')],
  'upstream-misconfigured': [denied(502, 'failed')],
  // A read before the cancel, or the call itself.
  'upstream-bad-response': [denied(502, 'failed'), { status: 502, outcome: 'unknown', entry: null }],
  'upstream-throttled': [denied(503, 'failed')],
  'upstream-unavailable': [denied(503, 'failed')],
  'gateway-busy': [denied(503, 'failed')],
  'audit-unavailable': [denied(503, null)],
  'upstream-timeout': [denied(504, 'failed')],
  'outcome-unknown': [{ status: 504, outcome: 'unknown', entry: null }],
}

/** Answers of the upstream after which the same call may be repeated, since they say that nothing was done. */
const REPEATABLE = /^(Throttling|Rejected\.Throttling|InvalidTimeStamp|InvalidAccessKeyId)/

/** A request with everything that belongs to it. */
interface Cancel {
  readonly request: RequestEvent
  readonly response: EventOf<'response'> | undefined
  /** As the last reading shows it. */
  readonly entry: Entry | undefined
  /** When its intent became durable; never, if it did not. */
  readonly writtenAtMs: number
  /** When its caller was told how it ended; calls after that are not of this request. */
  readonly answeredAtMs: number
  /** Its replica was ended after the request came, so an answer could be lost. */
  readonly isReplicaKilled: boolean
  /** Calls with the identity of this request. */
  readonly calls: readonly EventOf<'call'>[]
}

/** The contradictions of a history, one sentence each. */
export const contradictionsOf = (events: readonly HistoryEvent[]): readonly string[] => {
  const all = <K extends Kind>(kind: K) => events.filter((event): event is EventOf<K> => event.kind === kind)
  const [readings, calls] = [all('reading'), all('call')]
  const last = readings.at(-1)?.entries ?? []
  const cancels = cancelsOf(all('request'), all('response'), all('intent'), all('killed'), calls, last)
  return [
    ...all('crashed').map(({ replica }) => `replica ${replica} ended by itself`),
    ...last.filter(({ outcome }) => outcome === 'pending').map((entry) => `${nameOf(entry)} has no end`),
    ...foreignEntries(cancels, last),
    ...cancels.flatMap((cancel) => [...responseFaults(cancel), ...claimFaults(cancel, calls)]),
    ...callFaults(cancels, calls),
    ...readings.flatMap(({ entries, endMs }) => entries.flatMap((entry) => untruths(entry, endMs, calls))),
    ...all('task').flatMap((task) => taskUntruths(task, calls)),
    ...takenBack(readings),
    ...endFaults(all('ends'), last),
  ]
}

const nameOf = ({ userAgent, taskNo }: Pick<Entry, 'userAgent' | 'taskNo'>): string => `${userAgent} (${taskNo})`

const cancelsOf = (
  requests: readonly RequestEvent[],
  responses: readonly EventOf<'response'>[],
  intents: readonly EventOf<'intent'>[],
  kills: readonly EventOf<'killed'>[],
  calls: readonly EventOf<'call'>[],
  entries: readonly Entry[],
): readonly Cancel[] => {
  const responseOf = new Map(responses.map((response) => [response.userAgent, response]))
  const entryOf = new Map(entries.map((entry) => [entry.userAgent, entry]))
  const writtenAtMs = new Map(intents.map(({ id, atMs }) => [id, atMs]))
  return requests.map((request) => {
    const response = responseOf.get(request.userAgent)
    const entry = entryOf.get(request.userAgent)
    return {
      request,
      response,
      entry,
      writtenAtMs: writtenAtMs.get(entry?.id ?? '') ?? Number.POSITIVE_INFINITY,
      answeredAtMs: response === undefined || isOpen(response) ? Number.POSITIVE_INFINITY : response.atMs,
      isReplicaKilled: kills.some(({ replica, atMs }) => replica === request.replica && atMs >= request.atMs),
      calls: calls.filter((call) => isCallOf(call, request)),
    }
  })
}

const isOpen = ({ body }: EventOf<'response'>): boolean => body.outcome === 'unknown'

const isCallOf = (call: EventOf<'call'>, { taskNo, clientIp, lang }: RequestEvent): boolean =>
  call.taskNo === taskNo && call.clientIp === clientIp && call.lang === lang

/** Each request has at most one entry, which holds the identity of its own caller. */
const foreignEntries = (cancels: readonly Cancel[], entries: readonly Entry[]): readonly string[] => {
  const requestOf = new Map(cancels.map(({ request }) => [request.userAgent, request]))
  const seen = new Set<string>()
  return entries.flatMap((entry) => {
    const request = requestOf.get(entry.userAgent)
    const isSecond = seen.has(entry.userAgent)
    seen.add(entry.userAgent)
    if (isSecond) return [`${nameOf(entry)} has two entries`]
    if (request === undefined) return [`${nameOf(entry)} has an entry, and was never requested`]
    const isSame =
      entry.taskNo === request.taskNo && entry.caller === request.caller && entry.clientIp === request.clientIp
    return isSame ? [] : [`${nameOf(entry)} has an entry with the identity of another request`]
  })
}

/** Is the response one of the contract, and does the entry say the same? */
const responseFaults = (cancel: Cancel): readonly string[] => {
  const { request, response, entry, isReplicaKilled } = cancel
  if (response === undefined) return []
  const { status, body } = response
  const name = `${nameOf(request)}, answered ${status} ${String(body.code ?? body.cancelStatus)}`
  if (typeof body.cancellationId === 'string' && entry !== undefined && entry.id !== body.cancellationId) {
    return [`${name}, has the entry of another request`]
  }
  if (status < 300) {
    if (entry === undefined) return [`${name}, has no entry`]
    const isLost = isReplicaKilled && entry.outcome === 'unknown'
    return SUCCESSES.includes(entry.outcome) || isLost ? [] : [`${name}, is ${entry.outcome} on record`]
  }
  const problem = PROBLEMS[String(body.code)]?.find((each) => each.status === status && each.outcome === body.outcome)
  if (problem === undefined) return [`${name} ${String(body.outcome)}, is not a response of the contract`]
  return entryFaults(cancel, problem, name)
}

const entryFaults = (cancel: Cancel, problem: Problem, name: string): readonly string[] => {
  const { entry, isReplicaKilled } = cancel
  if (entry === undefined) {
    // What is not sent may lack an entry: the write of it can fail.
    const needsEntry = problem.entry === 'rejected' || problem.outcome === 'unknown'
    return needsEntry ? [`${name}, has no entry`] : []
  }
  if (problem.outcome === 'unknown') return entry.outcome === 'refused' ? [`${name}, is refused on record`] : []
  const expected = problem.entry ?? 'failed'
  const isSame = entry.outcome === expected && entry.settledBy === null
  // An answer that was not written by the end of its replica is lost: the entry then is unknown, or has what the task
  // showed.
  const isLost = isReplicaKilled && (entry.outcome === 'unknown' || entry.settledBy !== null)
  const by = entry.settledBy === null ? '' : ` by a ${entry.settledBy}`
  return isSame || isLost || entry.outcome === 'pending' ? [] : [`${name}, is ${entry.outcome}${by} on record`]
}

/** A success claims an effect, and one with an answer of the upstream claims a call of its own. */
const claimFaults = ({ request, response, calls }: Cancel, all: readonly EventOf<'call'>[]): readonly string[] => {
  if (response === undefined) return []
  const { status, body, atMs } = response
  const name = `${nameOf(request)}, answered ${status} ${String(body.code ?? body.cancelStatus)}`
  const isBefore = (call: EventOf<'call'>): boolean => call.atMs <= atMs
  const own = calls.filter(isBefore)
  if (status >= 300) {
    const claimsCall = body.requestId !== undefined && PROBLEMS[String(body.code)]?.[0]?.entry === 'rejected'
    return claimsCall && own.length === 0 ? [`${name}, was not sent with the identity of its caller`] : []
  }
  const effects = all.filter((call) => call.effect && call.taskNo === request.taskNo && isBefore(call))
  if (effects.length === 0) return [`${name}, and the upstream had not cancelled the task`]
  if (body.cancelStatus === 'cancelled' && effects.every(({ cancelledAtMs }) => cancelledAtMs > atMs)) {
    return [`${name}, and the upstream was still cancelling the task`]
  }
  const isOwn = body.requestId === null || own.some(({ effect }) => effect)
  return isOwn ? [] : [`${name}, was not sent with the identity of its caller`]
}

/** Each call has an intent of its own, and an effect has a request that does not deny it. */
const callFaults = (cancels: readonly Cancel[], calls: readonly EventOf<'call'>[]): readonly string[] => {
  const used = new Set<Cancel>()
  return calls.flatMap((call) => {
    const { taskNo, clientIp, atMs } = call
    const name = `the call for ${taskNo} of ${clientIp}`
    const open = cancels.filter(
      ({ request, writtenAtMs, answeredAtMs }) =>
        isCallOf(call, request) && writtenAtMs <= atMs && atMs <= answeredAtMs,
    )
    if (open.length === 0) return [`${name} was sent without an intent`]
    const faults: string[] = []
    if (call.effect && open.every(({ entry }) => DENIALS.includes(entry?.outcome ?? ''))) {
      faults.push(`${name} cancelled the task, and each of its requests is denied on record`)
    }
    if (call.effect && open.every(({ response }) => response?.body.outcome === 'not-cancelled')) {
      faults.push(`${name} cancelled the task, and each of its requests was answered not-cancelled`)
    }
    if (REPEATABLE.test(call.code ?? '')) return faults
    // The request that is answered first, so that later calls have the others.
    const [first] = open.filter((cancel) => !used.has(cancel)).sort((a, b) => a.answeredAtMs - b.answeredAtMs)
    if (first === undefined) faults.push(`${name} is one more than its requests allow`)
    else used.add(first)
    return faults
  })
}

/** An entry that says that a task is being cancelled, or is cancelled, is right at that time. */
const untruths = (entry: Entry, endMs: number, calls: readonly EventOf<'call'>[]): readonly string[] => {
  const effects = calls.filter((call) => call.effect && call.taskNo === entry.taskNo && call.atMs <= endMs)
  const name = `${nameOf(entry)} is ${entry.outcome} on record`
  if (entry.outcome === 'too-late') return effects.length > 0 ? [`${name}, and the upstream cancelled the task`] : []
  if (!SUCCESSES.includes(entry.outcome)) return []
  if (effects.length === 0) return [`${name}, and the upstream had not cancelled the task`]
  const isOver = effects.some(({ cancelledAtMs }) => cancelledAtMs <= endMs)
  return entry.outcome === 'cancelled' && !isOver ? [`${name}, and the upstream was still cancelling the task`] : []
}

const taskUntruths = (
  { taskNo, cancelStatus, endMs }: EventOf<'task'>,
  calls: readonly EventOf<'call'>[],
): readonly string[] => {
  if (cancelStatus !== 'cancelling' && cancelStatus !== 'cancelled') return []
  const isTrue = calls.some((call) => call.effect && call.taskNo === taskNo && call.atMs <= endMs)
  return isTrue ? [] : [`a reading showed ${taskNo} as ${cancelStatus}, and the upstream had not cancelled it`]
}

/** An entry never goes back from an outcome that a reading showed before. */
const takenBack = (readings: readonly EventOf<'reading'>[]): readonly string[] => {
  const shown = new Map<string, { readonly entry: Entry; readonly atMs: number; readonly endMs: number }[]>()
  for (const { entries, atMs, endMs } of readings) {
    for (const entry of entries) shown.set(entry.id, [...(shown.get(entry.id) ?? []), { entry, atMs, endMs }])
  }
  const faults = [...shown.values()].flatMap((all) =>
    all.flatMap((later) =>
      all
        .filter((earlier) => earlier.endMs < later.atMs && !mayFollow(earlier.entry, later.entry))
        .map(({ entry }) => `${nameOf(entry)} was ${stateOf(entry)} on record, and then ${stateOf(later.entry)}`),
    ),
  )
  return [...new Set(faults)]
}

const stateOf = ({ outcome, settledBy, isFinal }: Entry): string =>
  `${outcome}${settledBy === null ? '' : ` by a ${settledBy}`}${isFinal ? ', final' : ''}`

const mayFollow = (earlier: Entry, later: Entry): boolean => {
  if (earlier.isFinal && !later.isFinal) return false
  if (earlier.outcome === later.outcome || earlier.outcome === 'pending') return true
  if (later.outcome === 'pending' || later.outcome === 'unknown') return false
  if (earlier.outcome === 'unknown') return true
  if (earlier.outcome === 'accepted' && (later.outcome === 'cancelled' || later.outcome === 'too-late')) return true
  // A definite answer of the upstream that arrives late replaces what a query showed.
  return earlier.settledBy === 'query' && later.settledBy === null
}

/** A reader of the order of ends is told each end, and nothing else. */
const endFaults = (pages: readonly EventOf<'ends'>[], entries: readonly Entry[]): readonly string[] => {
  const told = new Set(pages.flatMap(({ ids }) => ids))
  return entries.flatMap((entry) => {
    if (entry.isFinal === told.has(entry.id)) return []
    const fault = entry.isFinal
      ? 'is final, and a reader of the ends was not told'
      : 'was told as an end, and is not final'
    return [`${nameOf(entry)} ${fault}`]
  })
}
