import { createHmac, randomBytes } from 'node:crypto'
import * as z from 'zod'
import type { Secret } from '../secret.ts'
import { CLOCK_TOLERANCE_MS } from './clock-tolerance.ts'
import { createSeal } from './seal.ts'

/** A sign-in that a browser began, with the values that the provider gets (OpenID Connect Core, RFC 7636). */
export interface Transaction {
  /** Names the cookie: the beginning of the state, in the order of time. */
  readonly id: string
  readonly state: string
  readonly nonce: string
  /** Of PKCE. */
  readonly verifier: string
  /** The identifier of the session that this sign-in begins, however often its callback is requested. */
  readonly sessionId: string
  /** A path of the gateway, or a URL of another origin. */
  readonly returnTo: string
}

/** Sign-ins that are pending, and those that were completed a short time ago. A browser keeps them, sealed. */
export interface Transactions {
  begin(returnTo: string): Promise<Transaction & { readonly sealed: string }>
  /** The pending sign-in of that state among those values; undefined where there is none, or more than one. */
  find(values: readonly string[], state: string): Promise<Transaction | undefined>
  /** Takes the place of the transaction once it is complete. */
  sealMarker(transaction: Transaction): Promise<string>
  /** Where the completed sign-in of that state leads to. */
  findMarker(values: readonly string[], state: string): Promise<string | undefined>
}

export interface TransactionOptions {
  readonly sessionSecrets: readonly [Secret, ...Secret[]]
  readonly issuer: string
  readonly clientId: string
  readonly now: () => number
}

export const TRANSACTION_MS = 600_000
export const MARKER_MS = 120_000

const SEED_BYTES = 32
const SESSION_ID_CHARS = 22
const TIME_CHARS = 9
const ID_CHARS = TIME_CHARS + 9

/** One random value, from which the others are derived: four of them have to fit into the cookies of a browser. */
const contentSchema = z.object({
  seed: z.string(),
  startedAtMs: z.number(),
  returnTo: z.string(),
  returnToUrl: z.string().optional(),
})
const markerSchema = z.object({
  state: z.string(),
  untilMs: z.number(),
  returnTo: z.string(),
  returnToUrl: z.string().optional(),
})

type Content = z.output<typeof contentSchema>

/** The version before takes every `returnTo` for a path. A URL is beside it, so that it never becomes part of another. */
const toTarget = (returnTo: string): Pick<Content, 'returnTo' | 'returnToUrl'> =>
  returnTo.startsWith('/') ? { returnTo } : { returnTo: '/me', returnToUrl: returnTo }

const returnToIn = ({ returnTo, returnToUrl }: Pick<Content, 'returnTo' | 'returnToUrl'>): string =>
  returnToUrl ?? returnTo

/** Null where the state is not of a sign-in that the gateway began. */
export const transactionIdOf = (state: string): string | null => /^[0-9a-z]{9}[\w-]{9}/.exec(state)?.[0] ?? null

export const createTransactions = ({ sessionSecrets, issuer, clientId, now }: TransactionOptions): Transactions => {
  const pending = createSeal(sessionSecrets, JSON.stringify(['sign-in', issuer, clientId]), contentSchema)
  const markers = createSeal(sessionSecrets, JSON.stringify(['signed-in', issuer, clientId]), markerSchema)

  /** Another replica, whose clock differs, may have begun the sign-in. */
  const isCurrent = ({ startedAtMs }: Content): boolean =>
    now() < startedAtMs + TRANSACTION_MS && startedAtMs <= now() + CLOCK_TOLERANCE_MS

  return {
    begin: async (returnTo) => {
      const seed = randomBytes(SEED_BYTES).toString('base64url')
      const content = { seed, startedAtMs: now(), ...toTarget(returnTo) }
      return { ...transactionOf(content), sealed: await pending.seal(content) }
    },

    find: async (values, state) => {
      const opened = (await pending.unseal(values)).filter(isCurrent).map(transactionOf)
      const [found, ...more] = opened.filter((transaction) => transaction.state === state)
      return more.length === 0 ? found : undefined
    },

    sealMarker: ({ state, returnTo }) => markers.seal({ state, ...toTarget(returnTo), untilMs: now() + MARKER_MS }),

    findMarker: async (values, state) => {
      const opened = await markers.unseal(values)
      const isOurs = (marker: z.output<typeof markerSchema>) => marker.state === state && now() < marker.untilMs
      const found = opened.find(isOurs)
      return found === undefined ? undefined : returnToIn(found)
    },
  }
}

const transactionOf = (content: Content): Transaction => {
  const { seed, startedAtMs } = content
  const derive = (purpose: string): string => createHmac('sha256', seed).update(purpose).digest('base64url')
  const state = startedAtMs.toString(36).padStart(TIME_CHARS, '0') + derive('state')
  return {
    id: state.slice(0, ID_CHARS),
    state,
    nonce: derive('nonce'),
    verifier: derive('verifier'),
    sessionId: derive('session').slice(0, SESSION_ID_CHARS),
    returnTo: returnToIn(content),
  }
}
