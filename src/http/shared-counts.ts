import { setImmediate } from 'node:timers/promises'
import { createClient } from '@redis/client'
import type { IncrementResponse, Options, Store } from 'express-rate-limit'
import { type RedisReply, RedisStore } from 'rate-limit-redis'
import { createSignOuts, type SignOut, type SignOuts } from '../callers/sign-outs.ts'
import { by, deadlineIn } from '../deadline.ts'
import type { Secret } from '../secret.ts'
import type { Log } from '../telemetry/log.ts'
import { createMemoryStore } from './memory-store.ts'
import { createSignOutChannel, type SignOutChannel } from './shared-sign-outs.ts'

// Counts of limits, and sign-outs, that replicas share, in Redis. What is asked of Redis while it is away is not waited
// for: it is asked whether it is back, apart from requests.

/** What holds while Redis is away: each replica counts for itself, or nobody passes who would be counted. */
export type StoreFailure = 'local' | 'deny'

/** What counts right now. */
export type StoreInUse = 'redis' | StoreFailure

export interface SharedCountsOptions {
  readonly url: Secret
  readonly onFailure: StoreFailure
  /** What is learned of sign-outs at other replicas goes there; null where no browser signs in. */
  readonly signOuts: SignOuts | null
  readonly windowMs: number
  readonly log: Log
  readonly timing?: Partial<CountsTiming> | undefined
}

/** In milliseconds. */
export interface CountsTiming {
  /** How long one command may take. */
  readonly answerMs: number
  /** How long it may take to connect and to find Redis working. */
  readonly connectMs: number
  readonly retryEveryMs: number
}

const TIMING: CountsTiming = { answerMs: 250, connectMs: 1000, retryEveryMs: 1000 }

export interface SharedCounts {
  /** Where the limit of that name counts. */
  storeFor(limit: string): Store
  inUse(): StoreInUse
  /** Tells other replicas of a sign-out; where Redis is away, once it is back. Resolves within the time of one command. */
  shareSignOut(signOut: SignOut): Promise<void>
  /** Sign-outs that other replicas were not told of yet. */
  unsharedSignOuts(): number
  /** Resolves once Redis works or was found to be away; then goes on by itself. */
  connect(): Promise<void>
  close(): void
}

const openClient = (url: Secret) =>
  createClient({ url: url.reveal(), disableOfflineQueue: true, socket: { reconnectStrategy: false } })

type Client = ReturnType<typeof openClient>

/** One connection, and the counters of each limit that go through it. */
interface Connection {
  readonly client: Client
  readonly counters: ReadonlyMap<string, Counter>
  readonly channel: SignOutChannel | null
}

interface Counter {
  init(options: Options): Promise<void>
  increment(key: string): Promise<IncrementResponse>
  decrement(key: string): Promise<void>
  resetKey(key: string): Promise<void>
}

/** Takes one back from a count that still runs. DECR alone would begin a count that never ends. */
const DECREMENT = "if tonumber(redis.call('GET', KEYS[1]) or '0') > 0 then redis.call('DECR', KEYS[1]) end"

const LATE = Symbol('late')

const PREFIX = 'domain-task-gateway:limits:'

const AWAY = {
  local: 'Redis is away, so this replica counts limits for itself',
  deny: 'Redis is away, so nobody passes who would be counted',
} as const satisfies Record<StoreFailure, string>

const UNSHARED = 'Redis is away, so this replica learns of sign-outs at other replicas once it is back'

export const createSharedCounts = (options: SharedCountsOptions): SharedCounts => {
  const { url, onFailure, windowMs, signOuts, log, timing } = options
  const { answerMs, connectMs, retryEveryMs } = { ...TIMING, ...timing }
  const limits = new Map<string, Options>()
  let current: Connection | null = null
  let unshared = createSignOuts()
  let wasAway = false
  let isClosed = false
  let timer: NodeJS.Timeout | undefined

  const connect = async (): Promise<void> => {
    const client = openClient(url)
    const channel = signOuts === null ? null : createSignOutChannel({ client, signOuts, inTime })
    const connection = { client, counters: countersOn(client), channel }
    // Its errors quote what it was told.
    client.on('error', () => leave(connection))
    const isReached = await by(deadlineIn(connectMs), reach(connection), false).catch(() => false)
    // Not within that deadline: there may be many sign-outs.
    const isOpen = isReached && (await (channel?.open() ?? Promise.resolve()).then(() => true).catch(() => false))
    if (!isOpen || isClosed) return giveUp(client)
    current = connection
    if (wasAway) log.info('Redis is back, and replicas count limits together')
    wasAway = false
    await shareSignOuts([...unshared.all()])
  }

  /** Has the scripts loaded, and writes: a server that is full or read-only answers as well. */
  const reach = async ({ client, counters }: Connection): Promise<boolean> => {
    await client.connect()
    // Given up meanwhile: the client connects all the same, and nobody else would end that.
    if (!client.isOpen) {
      client.destroy()
      return false
    }
    for (const [limit, options] of limits) await counters.get(limit)?.init(options)
    await client.set(`${PREFIX}probe`, '1', { expiration: { type: 'PX', value: 1000 } })
    return true
  }

  const countersOn = (client: Client): ReadonlyMap<string, Counter> => {
    const sendCommand = (...command: string[]): Promise<RedisReply> => inTime(client.sendCommand<RedisReply>(command))
    const counterOf = (limit: string): Counter => {
      const prefix = `${PREFIX}${limit}:`
      const store = new RedisStore({ sendCommand, prefix })
      return {
        init: async (given) => store.init(given),
        increment: async (key) => store.increment(key),
        decrement: async (key) => void (await sendCommand('EVAL', DECREMENT, '1', `${prefix}${key}`)),
        resetKey: async (key) => store.resetKey(key),
      }
    }
    return new Map([...limits.keys()].map((limit) => [limit, counterOf(limit)]))
  }

  const inTime = async <T>(asked: Promise<T>): Promise<T> => {
    const first = await by(deadlineIn(answerMs), asked, LATE)
    // Timers come before what has arrived: an answer may be there, unread, where this program was held up.
    const reply = first === LATE ? await Promise.race([asked, setImmediate(LATE)]) : first
    if (reply === LATE) throw new Error('Redis did not answer in time')
    return reply
  }

  const giveUp = (client: Client): void => {
    if (client.isOpen) client.destroy()
    if (isClosed) return
    if (!wasAway) {
      log.warn(AWAY[onFailure], { setting: 'REDIS_URL' })
      if (signOuts !== null) log.warn(UNSHARED, { setting: 'REDIS_URL' })
    }
    wasAway = true
    timer = setTimeout(connect, retryEveryMs).unref()
  }

  const leave = (connection: Connection): void => {
    if (current !== connection) return
    current = null
    giveUp(connection.client)
  }

  /** Null where Redis is away, or is found to be. */
  const ask = async <T>(use: (connection: Connection) => Promise<T> | null | undefined): Promise<T | null> => {
    const connection = current
    if (connection === null) return null
    try {
      return (await use(connection)) ?? null
    } catch {
      leave(connection)
      return null
    }
  }

  const askCounter = <T>(limit: string, use: (counter: Counter) => Promise<T>): Promise<T | null> =>
    ask(({ counters }) => {
      const counter = counters.get(limit)
      return counter === undefined ? null : use(counter)
    })

  const shareSignOuts = async (list: readonly SignOut[]): Promise<void> => {
    if (list.length === 0) return
    const isShared = await ask(({ channel }) => channel?.publish(list).then(() => true))
    if (isShared === null) for (const signOut of list) unshared.add(signOut)
    else unshared = createSignOuts()
  }

  /** More than any limit, until Redis is asked again. */
  const tooMany = (): IncrementResponse => ({
    totalHits: Number.MAX_SAFE_INTEGER,
    resetTime: new Date(Date.now() + retryEveryMs),
  })

  const countHere = (here: Store, key: string): Promise<IncrementResponse> | IncrementResponse =>
    onFailure === 'deny' ? tooMany() : here.increment(key)

  return {
    inUse: () => (current === null ? onFailure : 'redis'),
    shareSignOut: (signOut) => shareSignOuts([signOut]),
    unsharedSignOuts: () => unshared.size(),
    connect,
    close: () => {
      isClosed = true
      clearTimeout(timer)
      const last = current
      current = null
      if (last?.client.isOpen) last.client.destroy()
    },
    storeFor: (limit) => {
      const here = createMemoryStore(windowMs)
      return {
        init: (options) => void limits.set(limit, options),
        increment: async (key) =>
          (await askCounter(limit, (counter) => counter.increment(key))) ?? countHere(here, key),
        decrement: async (key) => {
          const isTaken = await askCounter(limit, (counter) => counter.decrement(key).then(() => true))
          if (isTaken === null) await here.decrement(key)
        },
        resetKey: async (key) => {
          await askCounter(limit, (counter) => counter.resetKey(key))
          await here.resetKey(key)
        },
      }
    },
  }
}
