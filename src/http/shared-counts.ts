import { setImmediate } from 'node:timers/promises'
import { createClient } from '@redis/client'
import { type IncrementResponse, MemoryStore, type Options, type Store } from 'express-rate-limit'
import { type RedisReply, RedisStore } from 'rate-limit-redis'
import { by, deadlineIn } from '../deadline.ts'
import type { Secret } from '../secret.ts'
import type { Log } from '../telemetry/log.ts'

// Counts of limits that replicas share, in Redis. What is asked of Redis while it is away is not waited for: it is asked
// whether it is back, apart from requests.

/** What holds while Redis is away: each replica counts for itself, or nobody passes who would be counted. */
export type StoreFailure = 'local' | 'deny'

/** What counts right now. */
export type StoreInUse = 'redis' | StoreFailure

export interface SharedCountsOptions {
  readonly url: Secret
  readonly onFailure: StoreFailure
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
  readonly counters: ReadonlyMap<string, RedisStore>
}

const LATE = Symbol('late')

const PREFIX = 'domain-task-gateway:limits:'

const AWAY = {
  local: 'Redis is away, so this replica counts limits for itself',
  deny: 'Redis is away, so nobody passes who would be counted',
} as const satisfies Record<StoreFailure, string>

export const createSharedCounts = ({ url, onFailure, log, timing }: SharedCountsOptions): SharedCounts => {
  const { answerMs, connectMs, retryEveryMs } = { ...TIMING, ...timing }
  const limits = new Map<string, Options>()
  let current: Connection | null = null
  let wasAway = false
  let isClosed = false
  let timer: NodeJS.Timeout | undefined

  const connect = async (): Promise<void> => {
    const client = openClient(url)
    const connection = { client, counters: countersOn(client) }
    // Its errors quote what it was told.
    client.on('error', () => leave(connection))
    const isReached = await by(deadlineIn(connectMs), reach(connection), false).catch(() => false)
    if (!isReached || isClosed) return giveUp(client)
    current = connection
    if (wasAway) log.info('Redis is back, and replicas count limits together')
    wasAway = false
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

  const countersOn = (client: Client): ReadonlyMap<string, RedisStore> => {
    const sendCommand = async (...command: string[]): Promise<RedisReply> => {
      const asked = client.sendCommand<RedisReply>(command)
      const inTime = await by(deadlineIn(answerMs), asked, LATE)
      // Timers come before what has arrived: an answer may be there, unread, where this program was held up.
      const reply = inTime === LATE ? await Promise.race([asked, setImmediate(LATE)]) : inTime
      if (reply === LATE) throw new Error('Redis did not answer in time')
      return reply
    }
    const counterOf = (limit: string) => new RedisStore({ sendCommand, prefix: `${PREFIX}${limit}:` })
    return new Map([...limits.keys()].map((limit) => [limit, counterOf(limit)]))
  }

  const giveUp = (client: Client): void => {
    if (client.isOpen) client.destroy()
    if (isClosed) return
    if (!wasAway) log.warn(AWAY[onFailure], { setting: 'REDIS_URL' })
    wasAway = true
    timer = setTimeout(connect, retryEveryMs).unref()
  }

  const leave = (connection: Connection): void => {
    if (current !== connection) return
    current = null
    giveUp(connection.client)
  }

  /** Null where Redis is away, or is found to be. */
  const ask = async <T>(limit: string, use: (counter: RedisStore) => Promise<T>): Promise<T | null> => {
    const connection = current
    const counter = connection?.counters.get(limit)
    if (connection === null || counter === undefined) return null
    try {
      return await use(counter)
    } catch {
      leave(connection)
      return null
    }
  }

  /** More than any limit, until Redis is asked again. */
  const tooMany = (): IncrementResponse => ({
    totalHits: Number.MAX_SAFE_INTEGER,
    resetTime: new Date(Date.now() + retryEveryMs),
  })

  const countHere = (here: MemoryStore, key: string): Promise<IncrementResponse> | IncrementResponse =>
    onFailure === 'deny' ? tooMany() : here.increment(key)

  return {
    inUse: () => (current === null ? onFailure : 'redis'),
    connect,
    close: () => {
      isClosed = true
      clearTimeout(timer)
      const last = current
      current = null
      if (last?.client.isOpen) last.client.destroy()
    },
    storeFor: (limit) => {
      const here = new MemoryStore()
      return {
        init: (options) => {
          limits.set(limit, options)
          here.init(options)
        },
        increment: async (key) => (await ask(limit, (counter) => counter.increment(key))) ?? countHere(here, key),
        decrement: async (key) => {
          const isTaken = await ask(limit, (counter) => counter.decrement(key).then(() => true))
          if (isTaken === null) await here.decrement(key)
        },
        resetKey: async (key) => {
          await ask(limit, (counter) => counter.resetKey(key))
          await here.resetKey(key)
        },
      }
    },
  }
}
