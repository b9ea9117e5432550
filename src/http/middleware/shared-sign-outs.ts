import type { RedisClientType } from '@redis/client'
import * as z from 'zod'
import type { SignOut, SignOuts } from '../../callers/sign-outs.ts'
import { nullOnError } from '../../errors.ts'

export type SignOutChannel = ReturnType<typeof createSignOutChannel>

export interface SignOutChannelOptions {
  readonly client: Pick<RedisClientType, 'subscribe' | 'zScan' | 'sendCommand'>
  readonly signOuts: SignOuts
  /** Rejects where Redis takes too long for one command. */
  readonly inTime: <T>(reply: Promise<T>) => Promise<T>
}

/** Also the channel. Members of the set are identifiers of sessions, scores their ends. */
const KEY = 'domain-task-gateway:sign-outs'
/** Longer than any session lasts. */
const KEPT_MS = 7_200_000
/** Clocks of replicas differ, so an entry is removed some time after its end. */
const MARGIN_MS = 600_000
const PAGE = 1000

/**
 * In one step: earlier subscribers were told of every entry of the set, and later ones read it there. A script, since
 * Redis before 7.2 puts publications of a connection to itself in the middle of the reply of EXEC.
 */
const PUBLISH = `
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[1])
  redis.call('ZADD', KEYS[1], unpack(ARGV, 4))
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  redis.call('PUBLISH', KEYS[1], ARGV[3])
`

const messageSchema = z.array(z.tuple([z.string().min(1).max(64), z.number()]))

/** Sign-outs that replicas tell each other through one connection to Redis. */
export const createSignOutChannel = ({ client, signOuts, inTime }: SignOutChannelOptions) => {
  const learn = (signOut: SignOut): void => {
    // Other programs may write to Redis: no entry is kept for longer than a session lasts.
    if (signOut.endsAtMs < Date.now() + KEPT_MS) signOuts.add(signOut)
  }

  const hear = (message: string): void => {
    const parsed = messageSchema.safeParse(nullOnError(() => JSON.parse(message)))
    for (const [id, endsAtMs] of parsed.data ?? []) learn({ id, endsAtMs })
  }

  /** Identifiers that Redis holds. An entry that stays in the set during the whole scan is on one of the pages. */
  const readAll = async (): Promise<ReadonlySet<string>> => {
    const ids = new Set<string>()
    for (let cursor = '0', isFirst = true; isFirst || cursor !== '0'; isFirst = false) {
      const page = await inTime(client.zScan(KEY, cursor, { COUNT: PAGE }))
      for (const { value: id, score: endsAtMs } of page.members) {
        ids.add(id)
        learn({ id, endsAtMs })
      }
      cursor = page.cursor
    }
    return ids
  }

  const publish = async (batch: readonly SignOut[]): Promise<void> => {
    const message = JSON.stringify(batch.map(({ id, endsAtMs }) => [id, endsAtMs]))
    const members = batch.flatMap(({ id, endsAtMs }) => [String(endsAtMs), id])
    const texts = [String(Date.now() - MARGIN_MS), String(KEPT_MS), message, ...members]
    await inTime(client.sendCommand(['EVAL', PUBLISH, '1', KEY, ...texts]))
  }

  const publishAll = async (all: readonly SignOut[]): Promise<void> => {
    for (let first = 0; first < all.length; first += PAGE) await publish(all.slice(first, first + PAGE))
  }

  return {
    /** Exchanges known sign-outs with other replicas, in both directions. Rejects where Redis does not permit that. */
    open: async (): Promise<void> => {
      // In this order, so that each entry that is added meanwhile is heard or read. On the connection of the limits, so
      // that their replies come after earlier publications.
      await inTime(client.subscribe(KEY, hear))
      const shared = await readAll()
      await publishAll([...signOuts.all()].filter(({ id }) => !shared.has(id)))
    },
    /** Resolves once each replica that is connected was told, and each that connects later will be. */
    publish: publishAll,
  }
}
