import { randomBytes } from 'node:crypto'
import * as z from 'zod'
import { GatewayError } from '../errors.ts'
import type { Secret } from '../secret.ts'
import type { Log } from '../telemetry/log.ts'
import { type Caller, type Grant, NO_GRANT, SCOPES } from './caller.ts'
import { type ClaimNames, DISPLAY_NAME_MAX } from './claims.ts'
import { CLOCK_TOLERANCE_MS } from './clock-tolerance.ts'
import { type Grants, grantFor } from './grants.ts'
import { createSeal } from './seal.ts'
import type { SignOut } from './sign-outs.ts'

/** The subject that signed in, and its name and grant from the provider. */
export interface Identity {
  readonly sub: string
  readonly displayName: string | null
  readonly grant: Grant
}

export interface Session {
  readonly caller: Caller
  /** The cookie that follows after something was done: idle time begins anew, the end stays. */
  renew(): Promise<string>
  /** Whether it was signed out after it was resumed, here or at another replica. */
  isSignedOut(): boolean
}

/** Sessions of browsers. All that is known of one is in its cookie, which only the gateway can read. */
export interface Sessions {
  /**
   * The cookie of a session. `id`: the same for each response that completes one sign-in, so that signing out ends all
   * of them. A display name that does not fit is left out. @throws sign-in-failed where the grants do not fit into a
   * cookie
   */
  begin(identity: Identity, id?: string): Promise<string>
  /** The caller that a session of that identity would have. */
  callerOf(identity: Identity): Caller
  /** Ends the sessions of those cookies until their own end: copies and renewals of the cookies count no more. */
  end(cookies: readonly string[]): Promise<void>
  /** The current sessions among those cookies. Values that open none are ignored. */
  resume(cookies: readonly string[]): Promise<readonly Session[]>
}

export interface SessionOptions {
  readonly sessionSecrets: readonly [Secret, ...Secret[]]
  readonly issuer: string
  readonly clientId: string
  readonly claimNames: ClaimNames
  /** The claim with the name of the person; null: sessions have no name. */
  readonly nameClaim: string | null
  /** From the last deed to the end. */
  readonly idleMs: number
  /** From the sign-in to the end. */
  readonly maxMs: number
  /** Used instead of the provider's grants; null: those count. */
  readonly grants: Grants | null
  readonly signOuts: {
    has(signOut: SignOut): boolean
    /** Remembers it here at once; resolves once other replicas were told, or could not be. */
    add(signOut: SignOut): Promise<void>
  }
  readonly log: Log
  readonly now?: (() => number) | undefined
}

/** Browsers keep cookies of up to 4096 bytes, name and attributes included, and drop larger ones silently. */
const COOKIE_MAX = 3900
const ID_BYTES = 16

const texts = z.array(z.string()).readonly().nullable()

const contentSchema = z.object({
  id: z.string(),
  sub: z.string(),
  // Absent in a cookie of the version before.
  displayName: z.string().max(DISPLAY_NAME_MAX).nullable().default(null),
  grant: z.object({ scopes: z.array(z.enum(SCOPES)).readonly(), domains: texts, taskTypes: texts }),
  idleAtMs: z.number(),
  endsAtMs: z.number(),
})

type Content = z.output<typeof contentSchema>

export const createSessions = (options: SessionOptions): Sessions => {
  const { sessionSecrets, issuer, clientId, claimNames, nameClaim, idleMs, maxMs } = options
  const { grants, signOuts, log, now = Date.now } = options
  // Neither a new provider takes over the sessions of another, nor do new rules for claims apply to old sessions. The
  // claim with the name decides nothing, so its sessions stay.
  const seal = createSeal(sessionSecrets, JSON.stringify(['session', issuer, clientId, claimNames]), contentSchema)

  /**
   * However clocks are set, and the settings: no session lasts longer than the settings and the tolerance allow. The
   * clock of the replica that wrote the cookie may be ahead of this one or behind it; the idle end is never after the
   * end.
   */
  const isCurrent = (content: Content): boolean => {
    const [idleLeftMs, leftMs] = [content.idleAtMs - now(), content.endsAtMs - now()]
    const isWithinLimits = idleLeftMs <= idleMs + CLOCK_TOLERANCE_MS && leftMs <= maxMs + CLOCK_TOLERANCE_MS
    return idleLeftMs > -CLOCK_TOLERANCE_MS && isWithinLimits && !signOuts.has(content)
  }

  const write = (content: Omit<Content, 'idleAtMs'>): Promise<string> =>
    seal.seal({ ...content, idleAtMs: Math.min(now() + idleMs, content.endsAtMs) })

  const toCaller = ({ sub, displayName, grant }: Identity): Caller => ({
    via: 'session',
    issuer,
    name: sub,
    displayName: nameClaim === null ? null : displayName,
    ...grantFor(grants, issuer, sub, grant),
  })

  return {
    begin: async ({ sub, displayName, grant }, id = randomBytes(ID_BYTES).toString('base64url')) => {
      const content = { id, sub, grant: grants === null ? grant : NO_GRANT, endsAtMs: now() + maxMs }
      for (const name of [displayName, null]) {
        const cookie = await write({ ...content, displayName: name })
        if (cookie.length <= COOKIE_MAX) return cookie
      }
      log.error('the grants of a sign-in do not fit into a session cookie', { setting: 'GRANTS_FILE' })
      throw new GatewayError('sign-in-failed')
    },

    callerOf: toCaller,

    end: async (cookies) => {
      await Promise.all((await seal.unseal(cookies)).map(signOuts.add))
    },

    resume: async (cookies) => {
      const current = (await seal.unseal(cookies)).filter(isCurrent)
      return current.map((content) => ({
        caller: toCaller(content),
        renew: () => write(content),
        isSignedOut: () => signOuts.has(content),
      }))
    },
  }
}
