import { rateLimit } from 'express-rate-limit'
import { createSignOuts } from '../../callers/sign-outs.ts'
import { createSharedStore, type SharedStoreOptions } from './redis-store.ts'

/** The limit and the key that the check counts. No limit of the gateway has that name. */
const NAME = 'doctor'

export interface SharedStoreCheckOptions extends Pick<SharedStoreOptions, 'url' | 'windowMs' | 'log'> {
  /** Whether sign-outs are shared there too. */
  readonly hasSignIn: boolean
}

/**
 * Counts once in Redis as a limit does, and removes the count. Returns the milliseconds after which the count would have
 * ended; null where Redis does not serve the gateway, for the reason in the log.
 */
export const checkSharedStore = async (options: SharedStoreCheckOptions): Promise<number | null> => {
  const signOuts = options.hasSignIn ? createSignOuts() : null
  const shared = createSharedStore({ ...options, onFailure: 'deny', signOuts })
  try {
    const counter = shared.storeFor(NAME)
    // Gives the counter its window.
    rateLimit({ windowMs: options.windowMs, store: counter, validate: false })
    await shared.connect()
    if (shared.inUse() !== 'redis') return null
    const { resetTime } = await counter.increment(NAME)
    await counter.resetKey(NAME)
    return shared.inUse() === 'redis' ? (resetTime?.getTime() ?? 0) - Date.now() : null
  } finally {
    shared.close()
  }
}
