import { request as sendRequest } from 'node:http'
import { connect, createServer, type Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import type { TestContext } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import type { Sandbox } from '../../sandbox/src/server.ts'
import { sha256 } from '../../src/callers/api-keys.ts'
import type { Env } from '../../src/config.ts'
import { asAuditor, baseEnv, CANARIES, startSandbox } from './gateway.ts'
import { contradictionsOf, type Entry, type HistoryEvent, type RequestEvent } from './history-check.ts'
import { CALLERS, type FaultStep, isFault, OWN_DOMAIN, type Plan, RESTRICTED, type Step } from './history-plan.ts'
import { SHORT_TIMES, type Source } from './history-source.ts'
import { listenOn } from './ports.ts'
import type { Database, PostgresServer } from './postgres.ts'
import { type RunningGateway, startProcess } from './process.ts'
import type { Redis } from './redis.ts'
import { closeTogether } from './upstream-proxy.ts'

// Runs a plan with real processes, and collects everything that they say and do as one history.

interface Servers {
  readonly server: PostgresServer
  readonly redis: Redis
}

export interface RunOptions extends Servers {
  readonly source: Source
  readonly settleMs?: number
}

export interface Run {
  readonly history: readonly HistoryEvent[]
  readonly contradictions: readonly string[]
}

/** Shorter than the life of a task, so that both ends of a cancellation are reached. */
const LIFECYCLE = { waitingMs: 1000, executingMs: 4500, cancellingMs: 400 }

/** More than a fault of PostgreSQL lasts. */
const START_TIMEOUT_MS = 60_000

/** A caller waits longer than any request may take. */
const PATIENCE_MS = 5000

/** A minute after the last fault is three seconds in the shortened times. A slow machine gets more. */
const SETTLE_MS = 25_000
/** Open cancellations are followed for this time after everything else has settled. */
const FOLLOW_MS = 4000
const POLL_MS = 200

const keyOf = (caller: string): string => `canary-api-key-of-${caller}`

const API_KEYS = JSON.stringify([
  ...CALLERS.map((name) => ({
    name,
    sha256: sha256(keyOf(name)).toString('hex'),
    scopes: ['tasks:cancel', 'tasks:read'],
    ...(name === RESTRICTED ? { domains: [`*.${OWN_DOMAIN}`] } : {}),
  })),
  { name: 'auditor', sha256: sha256(CANARIES.auditorKey).toString('hex'), scopes: ['audit:read', 'tasks:read'] },
])

const addressOf = (caller: (typeof CALLERS)[number], number: 0 | 1): string =>
  `198.51.100.${1 + 2 * CALLERS.indexOf(caller) + number}`

/** A TCP connection between a replica and a server, with faults. */
const startLink = async (t: TestContext, port: number) => {
  const open = new Set<{ readonly near: Socket; readonly far: Socket }>()
  let frozen: 'both' | 'back' | null = null
  let isRefusing = false

  const flow = ({ near, far }: { readonly near: Socket; readonly far: Socket }): void => {
    for (const [from, to, isStopped] of [
      [near, far, frozen === 'both'],
      [far, near, frozen !== null],
    ] as const) {
      from.unpipe(to)
      if (isStopped) from.pause()
      else from.pipe(to)
    }
  }
  const relay = (near: Socket): void => {
    if (isRefusing) return void near.resetAndDestroy()
    const pair = { near, far: connect(port, '127.0.0.1') }
    closeTogether(near, pair.far)
    open.add(pair)
    near.on('close', () => open.delete(pair))
    flow(pair)
  }
  const freeze = (way: 'both' | 'back' | null): void => {
    frozen = way
    for (const pair of open) flow(pair)
  }
  const cut = (): void => {
    for (const { near } of open) near.resetAndDestroy()
  }
  return {
    port: await listenOn(t, createServer(relay)),
    freeze,
    cut,
    refuse: (isOn: boolean): void => {
      isRefusing = isOn
      if (isOn) cut()
    },
  }
}

/** One replica after the other in the same place, with links of its own. */
const startReplica = async (t: TestContext, source: Source, env: Env, links: Links) => {
  let running: RunningGateway | null = null
  const crashes: number[] = []

  const start = async (): Promise<void> => {
    // It does not start while PostgreSQL is away.
    for (const until = Date.now() + START_TIMEOUT_MS; !t.signal.aborted; ) {
      try {
        const started = await startProcess(t, env, source)
        running = started
        void started.ended.then(() => {
          if (running !== started) return
          crashes.push(Date.now())
          running = null
        })
        return
      } catch (error) {
        if (Date.now() > until) throw error
        await delay(100)
      }
    }
  }
  await start()

  return {
    links,
    crashes,
    get url() {
      return running?.url
    },
    signal: (signal: NodeJS.Signals) => running?.kill(signal),
    kill: (): void => {
      const killed = running
      running = null
      killed?.kill('SIGKILL')
    },
    start,
  }
}

type Replica = Awaited<ReturnType<typeof startReplica>>
type Links = Readonly<Record<'record' | 'upstream', Awaited<ReturnType<typeof startLink>>>>

interface Answer {
  readonly status: number
  readonly body: Readonly<Record<string, unknown>>
}

interface AskOptions {
  readonly method: 'GET' | 'DELETE'
  readonly headers: Readonly<Record<string, string>>
  readonly patienceMs: number
}

/** A body that is not JSON is a response without the code of a problem, which the checker reports. */
const parsed = (body: string): Answer['body'] => {
  try {
    return JSON.parse(body)
  } catch {
    return { code: 'not JSON' }
  }
}

/** On a connection of its own; null where no response was received. */
const ask = (url: string, { method, headers, patienceMs }: AskOptions): Promise<Answer | null> =>
  new Promise((resolve) => {
    const outgoing = sendRequest(url, { method, headers, agent: false, signal: AbortSignal.timeout(patienceMs) })
    outgoing.on('error', () => resolve(null))
    outgoing.on('response', async (incoming) => {
      const body = await text(incoming).catch(() => null)
      resolve(body === null ? null : { status: incoming.statusCode ?? 0, body: parsed(body) })
    })
    outgoing.end()
  })

const entriesIn = ({ body }: Answer): readonly Entry[] => (Array.isArray(body.items) ? body.items : [])

/** Runs the plan until everything has settled. Returns the history and what contradicts in it. */
export const runPlan = async (
  t: TestContext,
  plan: Plan,
  { server, redis, source, settleMs = SETTLE_MS }: RunOptions,
): Promise<Run> => {
  const [database, sandbox] = [await server.database(), await startSandbox(t, LIFECYCLE)]
  const replicas = await startReplicas(t, plan, { database, redis, sandbox }, source)
  t.after(async () => {
    for (const replica of replicas) replica.kill()
    await database.remove()
  })
  const history: HistoryEvent[] = []
  const taskNos = plan.tasks.map(({ ageMs, domain }, number) =>
    sandbox.addTask({ taskNo: `task-${number}`, createdAt: Date.now() - ageMs, domains: [domain] }),
  )
  const faults = createFaults({ server, redis, sandbox, replicas, history })
  const startedAtMs = Date.now()
  let requests = 0
  const doStep = async (step: Step): Promise<void> => {
    await delay(Math.max(0, startedAtMs + step.atMs - Date.now()))
    if (isFault(step)) return faults.begin(step)
    const { url } = replicas[step.replica] ?? {}
    const taskNo = taskNos[step.task] ?? ''
    if (url === undefined) return
    if (step.do === 'read the record') return readRecord(history, url, { taskNo })
    if (step.do === 'read the task') return readTask(history, url, taskNo)
    requests += 1
    const { replica, caller, lang, address, waitSeconds, leavesAfterMs } = step
    const clientIp = addressOf(caller, address)
    const event: RequestEvent = {
      ...{ kind: 'request', atMs: Date.now(), userAgent: `request-${requests}` },
      ...{ replica, caller, clientIp, lang, taskNo },
    }
    await cancel(history, url, event, { waitSeconds, patienceMs: leavesAfterMs ?? PATIENCE_MS })
  }
  const readEnds = createEndsReader(history, replicas)
  let isRunning = true
  const following = (async () => {
    for (; isRunning && !t.signal.aborted; await delay(POLL_MS)) await readEnds()
  })()
  try {
    await Promise.all(plan.steps.map(doStep))
    await faults.end()
  } finally {
    isRunning = false
    await following
  }
  return settle({ history, replicas, database, sandbox, settleMs, readEnds })
}

const startReplicas = (
  t: TestContext,
  { replicas, steps }: Plan,
  { database, redis, sandbox }: { database: Database; redis: Redis; sandbox: Sandbox },
  source: Source,
): Promise<readonly Replica[]> => {
  const start = async (_: unknown, number: number): Promise<Replica> => {
    const links: Links = {
      record: await startLink(t, database.port),
      upstream: await startLink(t, Number(new URL(sandbox.url).port)),
    }
    const clockSteps = steps.flatMap((step) =>
      step.do === 'step the clock' && step.replica === number ? [step.byMs] : [],
    )
    const env = {
      ...baseEnv(`http://127.0.0.1:${links.upstream.port}`, ''),
      ...SHORT_TIMES,
      API_KEYS,
      AUDIT_URL: database.url('gateway', links.record.port),
      AUDIT_ADMIN_URL: database.url('record_owner'),
      REDIS_URL: redis.url,
      TRUST_PROXY: '127.0.0.1',
      CLOCK_STEPS: clockSteps.join(','),
    }
    return startReplica(t, source, env, links)
  }
  return Promise.all(Array.from({ length: replicas }, start))
}

const cancel = async (
  history: HistoryEvent[],
  url: string,
  event: RequestEvent,
  { waitSeconds, patienceMs }: { readonly waitSeconds: number; readonly patienceMs: number },
): Promise<void> => {
  const { userAgent, caller, clientIp, lang, taskNo } = event
  history.push(event)
  const headers = {
    ...{ 'x-api-key': keyOf(caller), 'x-forwarded-for': clientIp, 'user-agent': userAgent, 'accept-language': lang },
    ...(waitSeconds > 0 ? { prefer: `wait=${waitSeconds}` } : {}),
  }
  const answer = await ask(`${url}/tasks/${taskNo}`, { method: 'DELETE', headers, patienceMs })
  if (answer !== null) history.push({ kind: 'response', atMs: Date.now(), userAgent, ...answer })
}

const asAuditorNow = { method: 'GET', headers: asAuditor, patienceMs: PATIENCE_MS } as const

/** One page holds all entries of a run. */
const readRecord = async (
  history: HistoryEvent[],
  url: string,
  query: Readonly<Record<string, string>>,
): Promise<void> => {
  const atMs = Date.now()
  const answer = await ask(`${url}/cancellations?${new URLSearchParams({ limit: '200', ...query })}`, asAuditorNow)
  if (answer?.status !== 200) return
  history.push({ kind: 'reading', atMs, endMs: Date.now(), entries: entriesIn(answer) })
}

const readTask = async (history: HistoryEvent[], url: string, taskNo: string): Promise<void> => {
  const answer = await ask(`${url}/tasks/${taskNo}`, asAuditorNow)
  if (answer?.status !== 200) return
  history.push({ kind: 'task', endMs: Date.now(), taskNo, cancelStatus: String(answer.body.cancelStatus) })
}

/** Reads the order of ends from where the last reading ended, at one replica after the other. Returns the next ones. */
const createEndsReader = (history: HistoryEvent[], replicas: readonly Replica[]) => {
  let cursor: string | null = null
  let round = 0
  return async (): Promise<number> => {
    round += 1
    const url = replicas[round % replicas.length]?.url
    const query = new URLSearchParams({ sort: 'finished', ...(cursor === null ? {} : { cursor }) })
    const answer = url === undefined ? null : await ask(`${url}/cancellations?${query}`, asAuditorNow)
    if (answer?.status !== 200) return 0
    cursor = String(answer.body.nextCursor)
    const ids = entriesIn(answer).map(({ id }) => id)
    history.push({ kind: 'ends', ids })
    return ids.length
  }
}

interface Faulty extends Servers {
  readonly sandbox: Sandbox
  readonly replicas: readonly Replica[]
  readonly history: HistoryEvent[]
}

/** Begins faults, and ends each after its time. Where two faults of one kind overlap, the first that ends ends both. */
const createFaults = ({ server, redis, sandbox, replicas, history }: Faulty) => {
  let isPostgresStopped = false

  const begin = async (step: FaultStep): Promise<void> => {
    if ('replica' in step) {
      const replica = replicas[step.replica]
      if (replica !== undefined) await beginAt(replica, step)
      return
    }
    switch (step.do) {
      case 'restart PostgreSQL':
        if (isPostgresStopped) return
        isPostgresStopped = true
        await server.stop()
        await delay(step.forMs)
        await server.start()
        isPostgresStopped = false
        return
      case 'freeze PostgreSQL':
        if (isPostgresStopped) return
        server.freeze()
        await delay(step.forMs)
        if (!isPostgresStopped) server.thaw()
        return
      case 'freeze Redis':
        redis.freeze()
        await delay(step.forMs)
        redis.thaw()
        return
      case 'spoil the upstream':
        sandbox.fault(step.action, step.fault, step.times)
    }
  }

  const beginAt = async (replica: Replica, step: FaultStep & { readonly replica: number }): Promise<void> => {
    switch (step.do) {
      case 'kill':
        if (replica.url === undefined) return
        history.push({ kind: 'killed', atMs: Date.now(), replica: step.replica })
        replica.kill()
        await delay(step.forMs)
        return replica.start()
      case 'stop':
        replica.signal('SIGSTOP')
        await delay(step.forMs)
        return void replica.signal('SIGCONT')
      case 'cut':
        return replica.links[step.link].cut()
      case 'freeze':
        replica.links[step.link].freeze(step.way)
        await delay(step.forMs)
        return replica.links[step.link].freeze(null)
      case 'refuse':
        replica.links[step.link].refuse(true)
        await delay(step.forMs)
        return replica.links[step.link].refuse(false)
      case 'step the clock':
        return void replica.signal('SIGUSR2')
    }
  }

  return {
    begin,
    /** After all faults. */
    end: async (): Promise<void> => {
      sandbox.clearFaults()
      for (const replica of replicas) if (replica.url === undefined) await replica.start()
    },
  }
}

interface Settling extends Pick<Faulty, 'history' | 'replicas' | 'sandbox'> {
  readonly database: Database
  readonly settleMs: number
  readonly readEnds: () => Promise<number>
}

/** Waits until nothing contradicts and all cancellations are final, or until the time is over. */
const settle = async ({ history, replicas, database, sandbox, settleMs, readEnds }: Settling): Promise<Run> => {
  const startedAtMs = Date.now()
  for (let round = 0; ; round += 1) {
    const url = replicas[round % replicas.length]?.url
    const readings: HistoryEvent[] = []
    if (url !== undefined) await readRecord(readings, url, {})
    while ((await readEnds()) > 0);
    const whole = [...history, ...callsOf(sandbox), ...(await intentsOf(database)), ...crashesOf(replicas)]
    const [last] = readings
    const contradictions =
      last === undefined ? ['the record cannot be read'] : contradictionsOf([...whole, ...readings])
    const isFinal = last?.kind === 'reading' && last.entries.every((entry) => entry.isFinal)
    const ageMs = Date.now() - startedAtMs
    const isSettled = contradictions.length === 0 && (isFinal || ageMs > FOLLOW_MS)
    if (isSettled || ageMs > settleMs) return { history: [...whole, ...readings], contradictions }
    await delay(POLL_MS)
  }
}

const crashesOf = (replicas: readonly Replica[]): readonly HistoryEvent[] =>
  replicas.flatMap(({ crashes }, replica) => crashes.map((atMs) => ({ kind: 'crashed', atMs, replica }) as const))

const callsOf = (sandbox: Sandbox): readonly HistoryEvent[] =>
  sandbox.calls
    .filter(({ action }) => action === 'CancelTask')
    .map(({ params, effect, code, atMs }) => ({
      ...{ kind: 'call', atMs, taskNo: params.TaskNo ?? '', clientIp: params.UserClientIp ?? '' },
      ...{ lang: params.Lang ?? '', effect, code, cancelledAtMs: atMs + LIFECYCLE.cancellingMs },
    }))

/** When each intent was committed, in whole milliseconds as all times. */
const intentsOf = async (database: Database): Promise<readonly HistoryEvent[]> => {
  const rows = await database.query(
    'SELECT id, floor(extract(epoch FROM pg_xact_commit_timestamp(xmin)) * 1000) AS at FROM audit.intents',
  )
  return rows.map(({ id, at }) => ({ kind: 'intent', atMs: Number(at), id: String(id) }))
}

/** For the message of a failure: the faults of the plan, and all events of the tasks that are named. */
export const describeRun = ({ seed, steps }: Plan, { history, contradictions }: Run): string => {
  const named = new Set(contradictions.flatMap((text) => text.match(/task-\d+/g) ?? []))
  const events = history
    .map((event) =>
      event.kind === 'reading' ? { ...event, entries: event.entries.filter(({ taskNo }) => named.has(taskNo)) } : event,
    )
    .filter((event) => {
      if (event.kind === 'killed' || event.kind === 'crashed') return true
      if (event.kind === 'reading') return event.entries.length > 0
      return 'taskNo' in event
        ? named.has(event.taskNo)
        : event.kind === 'response' && named.has(String(event.body.taskNo))
    })
  const lines = [...steps.filter(isFault), ...events].map((each) => JSON.stringify(each))
  return [...contradictions, `SEED=${seed} npm run history`, ...lines].join('\n')
}
