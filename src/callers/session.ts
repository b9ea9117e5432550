import { z } from 'zod'
import { GatewayError } from '../errors.ts'
import type { Secret } from '../secret.ts'
import { type Caller, type Grant, NO_GRANT, SCOPES } from './caller.ts'
import type { Grants } from './grants.ts'
import { createSeal } from './seal.ts'

/** Who signed in, and what the provider grants them. */
export interface Identity {
  readonly sub: string
  readonly grant: Grant
}

export interface Session {
  readonly caller: Caller
  /** The cookie that follows after something was done: idle time begins anew, the end stays. */
  renew(): Promise<string>
}

/** Sessions of browsers. All that is known of one is in its cookie, which only the gateway can read. */
export interface Sessions {
  /** The cookie of a new session. @throws sign-in-failed where what is granted is too much for a cookie */
  begin(identity: Identity): Promise<string>
  /** Undefined for what is no cookie of ours, or one past its time. */
  resume(cookie: string): Promise<Session | undefined>
}

export interface SessionOptions {
  readonly sessionSecrets: readonly [Secret, ...Secret[]]
  readonly issuer: string
  readonly clientId: string
  /** From the last deed to the end. */
  readonly idleMs: number
  /** From the sign-in to the end. */
  readonly maxMs: number
  /** What counts instead of what the provider grants; null: that counts. */
  readonly grants: Grants | null
  readonly now?: (() => number) | undefined
}

/** Browsers keep cookies of up to 4096 bytes, name and attributes included, and drop larger ones silently. */
const COOKIE_MAX = 3900

const texts = z.array(z.string()).readonly().nullable()

const contentSchema = z.object({
  sub: z.string(),
  grant: z.object({ scopes: z.array(z.enum(SCOPES)).readonly(), domains: texts, taskTypes: texts }),
  idleAtMs: z.number(),
  endsAtMs: z.number(),
})

type Content = z.output<typeof contentSchema>

export const createSessions = (options: SessionOptions): Sessions => {
  const { sessionSecrets, issuer, clientId, idleMs, maxMs, grants, now = Date.now } = options
  // A provider or client that takes the place of another does not take over its sessions.
  const seal = createSeal(sessionSecrets, JSON.stringify(['session', issuer, clientId]))

  const write = (content: Omit<Content, 'idleAtMs'>): Promise<string> =>
    seal.seal(JSON.stringify({ ...content, idleAtMs: Math.min(now() + idleMs, content.endsAtMs) }))

  /** A cookie of another version can look different. */
  const read = async (cookie: string): Promise<Content | undefined> => {
    const text = await seal.open(cookie)
    return text === undefined ? undefined : contentSchema.safeParse(JSON.parse(text)).data
  }

  const toCaller = ({ sub, grant }: Content): Caller => {
    const { scopes, domains, taskTypes } = grants === null ? grant : grants.grantOf(issuer, sub)
    return { via: 'session', issuer, name: sub, scopes, domains, taskTypes }
  }

  return {
    begin: async ({ sub, grant }) => {
      const cookie = await write({ sub, grant: grants === null ? grant : NO_GRANT, endsAtMs: now() + maxMs })
      if (cookie.length > COOKIE_MAX) throw new GatewayError('sign-in-failed')
      return cookie
    },

    resume: async (cookie) => {
      const content = await read(cookie)
      if (content === undefined || now() >= content.idleAtMs) return undefined
      return { caller: toCaller(content), renew: () => write(content) }
    },
  }
}
