import { setImmediate } from 'node:timers/promises'
import { createClient } from '@redis/client'
import type { IncrementResponse, Options, Store } from 'express-rate-limit'
import { type RedisReply, RedisStore } from 'rate-limit-redis'
import { createSignOuts, type SignOut, type SignOuts } from '../../callers/sign-outs.ts'
import type { Secret } from '../../secret.ts'
import type { Log } from '../../telemetry/log.ts'
import { deadlineIn, withDeadline } from '../../time.ts'
import { createMemoryStore } from './memory-store.ts'
import { isConnectionClosed, isUnsent, type RedisFailure, RedisTimeout, readRedisFailure } from './redis-failure.ts'
import { createSignOutChannel, type SignOutChannel } from './shared-sign-outs.ts'

// Counts of limits, and sign-outs, that replicas share in Redis. Requests never wait for a Redis that is away; a timer
// checks whether it is back.

/**
 * The behaviour while Redis is away: each replica counts by itself, or all requests that a limit counts are refused.
 */
export type StoreFailure = 'local' | 'deny'

/** The store that counts at present. */
export type StoreInUse = 'redis' | StoreFailure

export interface SharedStoreOptions {
  readonly url: Secret
  readonly onFailure: StoreFailure
  /** Receives sign-outs of other replicas; null where sign-in is not configured. */
  readonly signOuts: SignOuts | null
  readonly windowMs: number
  readonly log: Log
  readonly timing?: Partial<SharedStoreTiming> | undefined
}

/** In milliseconds. */
export interface SharedStoreTiming {
  /** How long one command may take. */
  readonly answerMs: number
  /** How long it may take to connect and to find Redis working. */
  readonly connectMs: number
  readonly retryEveryMs: number
}

// A command takes a round trip, a connection about six, after addresses that do not respond.
const TIMING: SharedStoreTiming = { answerMs: 1000, connectMs: 5000, retryEveryMs: 1000 }

export type SharedStore = ReturnType<typeof createSharedStore>

const openClient = (url: Secret) =>
  createClient({
    url: url.reveal(),
    disableOfflineQueue: true,
    // A feature of Redis Enterprise, for which the client looks the host up as a name: `[::1]` is none.
    maintNotifications: 'disabled',
    socket: { reconnectStrategy: false },
  })

type Client = ReturnType<typeof openClient>

/** One connection, and the counters of each limit that go through it. */
interface Connection {
  readonly client: Client
  readonly counters: ReadonlyMap<string, RedisStore>
  readonly channel: SignOutChannel | null
}

/** Takes one back from a count that still runs. DECR alone would begin a count that never ends. */
const DECREMENT = "if tonumber(redis.call('GET', KEYS[1]) or '0') > 0 then redis.call('DECR', KEYS[1]) end"

/** Connections that are replaced at once, within the time of one retry: a server may close each one that it accepts. */
const REPLACEMENTS_MAX = 5
/** Requests wait for a connection that replaces another as long as for so many commands. */
const REPLACEMENT_ANSWERS = 2

const LATE = Symbol('late')

const PREFIX = 'domain-task-gateway:limits:'
/** Counted on each new connection; no caller and no address has that name. */
const PROBE = 'probe'

const UNAVAILABLE = {
  away: {
    local: 'Redis is not available; this replica counts limits by itself',
    deny: 'Redis is not available; every request that a limit counts is refused',
    signOuts: 'Redis is not available; sign-outs of other replicas arrive once it is available again',
  },
  refused: {
    local: 'Redis does not serve the gateway; this replica counts limits by itself',
    deny: 'Redis does not serve the gateway; every request that a limit counts is refused',
    signOuts: 'Redis does not serve the gateway; this replica does not receive sign-outs of other replicas',
  },
} as const satisfies Record<RedisFailure['kind'], Record<StoreFailure | 'signOuts', string>>

export const createSharedStore = (options: SharedStoreOptions) => {
  const { url, onFailure, windowMs, signOuts, log, timing } = options
  const { answerMs, connectMs, retryEveryMs } = { ...TIMING, ...timing }
  const { protocol } = new URL(url.reveal())
  const limits = new Map<string, Options>()
  let current: Connection | null = null
  let unshared = createSignOuts()
  /** Reasons logged since Redis was last in use. */
  const loggedReasons = new Set<string>()
  /** Requests wait for it while a connection that Redis closed is replaced. */
  let replacement: Promise<void> | null = null
  let replacedAtMs: readonly number[] = []
  let isClosed = false
  let timer: NodeJS.Timeout | undefined

  const connect = async (): Promise<void> => {
    const client = openClient(url)
    const channel = signOuts === null ? null : createSignOutChannel({ client, signOuts, inTime: withinAnswerTime })
    const connection = { client, counters: countersOn(client), channel }
    let firstError: unknown
    let opening: string | null = protocol
    // With `rediss:`, after TLS.
    client.once(protocol === 'rediss:' ? 'connect' : 'ready', () => {
      opening = null
    })
    // Messages of these errors quote commands.
    client.on('error', (error) => {
      firstError ??= error
      leave(connection, error)
    })
    try {
      const isReached = await withDeadline(deadlineIn(connectMs), reach(connection), LATE)
      if (isReached === LATE) throw new RedisTimeout()
      // Not within that deadline: there may be many sign-outs.
      await channel?.open()
    } catch (error) {
      return giveUp(client, readRedisFailure(firstError ?? error, opening))
    }
    if (isClosed) return client.destroy()
    current = connection
    if (loggedReasons.size > 0) log.info('Redis is available again; replicas share the limits again')
    loggedReasons.clear()
    await shareSignOuts([...unshared.all()])
  }

  /** Has the scripts loaded, and counts and takes back a probe: a server that is full or read-only answers as well. */
  const reach = async ({ client, counters }: Connection): Promise<void> => {
    await client.connect()
    // The attempt was given up meanwhile, but the client connects all the same: end that connection here.
    if (!client.isOpen) {
      client.destroy()
      throw new RedisTimeout()
    }
    await Promise.all([...limits].map(([limit, options]) => counters.get(limit)?.init(options)))
    const [probe] = counters.values()
    await Promise.all([probe?.increment(PROBE), probe?.decrement(PROBE)])
  }

  const countersOn = (client: Client): ReadonlyMap<string, RedisStore> => {
    const sendCommand = (...command: string[]): Promise<RedisReply> =>
      withinAnswerTime(client.sendCommand<RedisReply>(command))
    const counterOf = (limit: string): RedisStore => {
      const prefix = `${PREFIX}${limit}:`
      return Object.assign(new RedisStore({ sendCommand, prefix }), {
        decrement: async (key: string) => void (await sendCommand('EVAL', DECREMENT, '1', `${prefix}${key}`)),
      })
    }
    return new Map([...limits.keys()].map((limit) => [limit, counterOf(limit)]))
  }

  const withinAnswerTime = async <T>(asked: Promise<T>): Promise<T> => {
    const first = await withDeadline(deadlineIn(answerMs), asked, LATE)
    // Timers run before I/O: after a delay of the event loop, a reply may have arrived but be unread.
    const reply = first === LATE ? await Promise.race([asked, setImmediate(LATE)]) : first
    if (reply === LATE) throw new RedisTimeout()
    return reply
  }

  const giveUp = (client: Client, failure: RedisFailure): void => {
    if (client.isOpen) client.destroy()
    if (isClosed) return
    logFailure(failure)
    timer = setTimeout(connect, retryEveryMs).unref()
  }

  /** Each reason once, until Redis is in use again. */
  const logFailure = ({ kind, reason, code }: RedisFailure): void => {
    if (loggedReasons.has(reason)) return
    loggedReasons.add(reason)
    const texts = UNAVAILABLE[kind]
    log.warn(texts[onFailure], { setting: 'REDIS_URL', reason, errorCode: code })
    if (signOuts !== null && loggedReasons.size === 1) log.warn(texts.signOuts, { setting: 'REDIS_URL' })
  }

  const leave = (connection: Connection, error: unknown): void => {
    if (current !== connection) return
    current = null
    const nowMs = performance.now()
    replacedAtMs = replacedAtMs.filter((atMs) => atMs > nowMs - retryEveryMs)
    // Redis closes connections that are idle (its setting `timeout`), which is no outage.
    const isReplaced = isConnectionClosed(error) && replacedAtMs.length < REPLACEMENTS_MAX && !isClosed
    if (isReplaced) replace(connection.client, nowMs)
    else giveUp(connection.client, readRedisFailure(error, null))
  }

  const replace = (client: Client, nowMs: number): void => {
    if (client.isOpen) client.destroy()
    replacedAtMs = [...replacedAtMs, nowMs]
    replacement = withDeadline(deadlineIn(REPLACEMENT_ANSWERS * answerMs), connect(), undefined).finally(() => {
      replacement = null
    })
  }

  /** Null where Redis is away. */
  const connected = async (): Promise<Connection | null> => {
    if (current === null && replacement !== null) await replacement
    return current
  }

  /**
   * Null where Redis is away, or is found to be. A command whose connection was closed is sent once more, on the next
   * connection: where it was not sent, and where it is repeatable.
   */
  const ask = async <T>(
    use: (connection: Connection) => Promise<T> | null | undefined,
    isRepeatable: boolean,
  ): Promise<T | null> => {
    let connection = await connected()
    for (let attempt = 1; connection !== null; attempt += 1) {
      try {
        return (await use(connection)) ?? null
      } catch (error) {
        leave(connection, error)
        const isAgain = attempt === 1 && (isUnsent(error) || (isRepeatable && isConnectionClosed(error)))
        connection = isAgain ? await connected() : null
      }
    }
    return null
  }

  const askCounter = <T>(
    limit: string,
    use: (counter: RedisStore) => Promise<T>,
    isRepeatable: boolean,
  ): Promise<T | null> =>
    ask(({ counters }) => {
      const counter = counters.get(limit)
      return counter === undefined ? null : use(counter)
    }, isRepeatable)

  const shareSignOuts = async (list: readonly SignOut[]): Promise<void> => {
    if (list.length === 0) return
    const isShared = await ask(({ channel }) => channel?.publish(list).then(() => true), true)
    if (isShared === null) for (const signOut of list) unshared.add(signOut)
    else unshared = createSignOuts()
  }

  /** With `deny`, more than any limit until Redis is asked again. */
  const countHere = (here: Store, key: string): Promise<IncrementResponse> | IncrementResponse =>
    onFailure === 'deny'
      ? { totalHits: Number.MAX_SAFE_INTEGER, resetTime: new Date(Date.now() + retryEveryMs) }
      : here.increment(key)

  return {
    inUse: (): StoreInUse => (current === null ? onFailure : 'redis'),
    /**
     * Tells other replicas of a sign-out; where Redis is away, once it is back. Resolves within the time of one command.
     */
    shareSignOut: (signOut: SignOut) => shareSignOuts([signOut]),
    /** Sign-outs that other replicas were not told of yet. */
    unsharedSignOuts: () => unshared.size(),
    /** Resolves once Redis works or was found to be away; then goes on by itself. */
    connect,
    close: (): void => {
      isClosed = true
      clearTimeout(timer)
      const last = current
      current = null
      if (last?.client.isOpen) last.client.destroy()
    },
    /** Where the limit of that name counts. */
    storeFor: (limit: string): Store => {
      const here = createMemoryStore(windowMs)
      return {
        init: (options) => void limits.set(limit, options),
        // Counted twice, a request makes the count too high; taken back twice, too low.
        increment: async (key) =>
          (await askCounter(limit, (counter) => counter.increment(key), true)) ?? countHere(here, key),
        decrement: async (key) => {
          const isTaken = await askCounter(limit, (counter) => counter.decrement(key).then(() => true), false)
          if (isTaken === null) await here.decrement(key)
        },
        resetKey: async (key) => {
          await askCounter(limit, (counter) => counter.resetKey(key), true)
          await here.resetKey(key)
        },
      }
    },
  }
}
