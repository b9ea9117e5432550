import * as z from 'zod'
import { isSafeUrl, parseSubnets, type Subnets } from '../addresses.ts'
import { Secret } from '../secret.ts'
import { isStrongSecret } from './secret-strength.ts'
import { decodeEscapes, trimEnds } from './text.ts'

// How the text of a setting becomes a value. Each rule completes the sentence "<the setting> must …".

export const integer = (min: number, max: number): z.ZodType<number> => {
  const rule = { error: `must be a whole number from ${min} to ${max}` }
  return z
    .string()
    .regex(/^\d{1,15}$/, rule)
    .transform(Number)
    .pipe(z.number().min(min, rule).max(max, rule))
}

export const flag = z.enum(['true', 'false'], { error: 'must be true or false' }).transform((text) => text === 'true')

export const choice = <const T extends readonly string[]>(values: T): z.ZodType<T[number]> =>
  z.enum(values, { error: `must be one of ${values.join(', ')}` })

/** The result of `parse`; if that is null, the rule is broken. */
const parsedBy = <T>(parse: (text: string) => T | null, rule: string): z.ZodType<T> =>
  z.string().transform((text, context) => {
    const value = parse(text)
    if (value !== null) return value
    context.addIssue({ code: 'custom', message: rule })
    return z.NEVER
  })

const listOf = (text: string): readonly string[] => (text === '' ? [] : text.split(',').map((one) => one.trim()))

/**
 * A URL consists of ASCII characters (RFC 3986); the parser would drop, convert or encode others. A fragment would be
 * cut, so a text with one is no URL here.
 */
const urlIn = (text: string): URL | null => (/^[!$-;=?-[\]-~]+$/.test(text) ? URL.parse(text) : null)

const hasCredentials = ({ username, password }: URL): boolean => `${username}${password}` !== ''

const originIn = (text: string): URL | null => {
  const url = urlIn(text)
  return url !== null && /^https?:$/.test(url.protocol) && url.href === `${url.origin}/` ? url : null
}

export const upstreamOrigin = parsedBy(
  originIn,
  'must be an origin without a path, such as https://domain.aliyuncs.com',
)

export const publicOrigin = parsedBy(
  (text) => originIn(text)?.origin ?? null,
  'must be an http(s) origin without a path, such as https://gateway.example.com',
)

// Compared with the header of browsers, so each must be in the form that they send.
const ORIGINS_RULE =
  'must be http(s) origins such as https://app.example.com, in lower case, without path, default port or wildcard, separated by commas'

export const origins = z
  .string()
  .transform(listOf)
  .refine((all) => all.every((one) => /^https?:[^*]+$/.test(one) && URL.parse(one)?.origin === one), {
    error: ORIGINS_RULE,
  })

const safeUrlIn = (text: string): URL | null => {
  const url = urlIn(text)
  return url !== null && isSafeUrl(url) && !hasCredentials(url) ? url : null
}

export const safeUrl = parsedBy(
  safeUrlIn,
  'must be an https: URL (http: for a loopback host) without credentials or fragment',
)

// Compared with a token's `iss` character by character, so it is not normalised.
export const issuer = z.string().refine((text) => safeUrlIn(text) !== null && !text.includes('?'), {
  error: 'must be an https: URL (http: for a loopback host) without credentials, query or fragment',
})

const collectorUrlIn = (text: string): URL | null => {
  const url = urlIn(text)
  return url !== null && /^https?:$/.test(url.protocol) && !hasCredentials(url) && !text.includes('?') ? url : null
}

export const collectorUrl = parsedBy(collectorUrlIn, 'must be an http(s) URL without credentials, query or fragment')

/** Symmetric algorithms are not among them: a public key would be their secret. */
const SIZED_ALGORITHMS = ['RS', 'PS', 'ES'].flatMap((family) => ['256', '384', '512'].map((size) => family + size))
const ALGORITHMS = [...SIZED_ALGORITHMS, 'EdDSA', 'Ed25519']
const ALGORITHMS_RULE = `must be some of ${ALGORITHMS.join(', ')}, separated by commas`

export const algorithms = z
  .string()
  .transform(listOf)
  .pipe(z.array(z.enum(ALGORITHMS, { error: ALGORITHMS_RULE })))

export const claimName = z
  .string()
  .regex(/^[\x21-\x7e]{1,256}$/, { error: 'must be the name of a claim, without spaces' })

/** Null: no claim, the meaning of an empty text. */
export const claimNameOrNone = z
  .string()
  .regex(/^[\x21-\x7e]{0,256}$/, { error: 'must be the name of a claim, without spaces, or empty' })
  .transform((text) => text || null)

/** Scopes of OAuth (RFC 6749, section 3.3). Without `openid` the provider returns no ID token. */
export const signInScopes = z
  .string()
  .refine(
    (text) => text.split(/ +/).every((scope) => /^[!#-[\]-~]+$/.test(scope)) && text.split(' ').includes('openid'),
    {
      error: 'must be scopes separated by blanks, one of them openid',
    },
  )
  .transform((text) => text.replaceAll(/ +/g, ' '))

const NO_SUBNETS: Subnets = { has: () => false }

export const subnets = parsedBy(
  (text) => (text === '' ? NO_SUBNETS : parseSubnets(text)),
  'must be addresses or CIDR blocks, separated by commas, none of them /0 or IPv4-mapped',
)

export const secret = z.string().transform((text) => new Secret(text))

const SECRETS_RULE =
  'must be one secret of at least 32 characters, or two with a comma in between: the new and the old one, each as random as npm run secret prints it'

/** The secret that new sessions are encrypted with, and during a rotation the one before it. */
export const sessionSecrets = parsedBy((text): readonly [Secret, ...Secret[]] | null => {
  const [first = '', ...others] = text.split(',').map(trimEnds)
  const areSound = others.length <= 1 && [first, ...others].every(isStrongSecret)
  return areSound ? [new Secret(first), ...others.map((other) => new Secret(other))] : null
}, SECRETS_RULE)

const POSTGRES_RULE =
  'postgres://<role>:<password>@<host>/<database>, with no parameter but sslmode=verify-full or sslmode=disable'

const PERCENT_RULE = {
  error: 'must have its user, password and database percent-encoded (a % that stands for itself is written as %25)',
}

/** Whether each `%` begins an escape, and the escapes are UTF-8: clients decode these parts. */
const isDecodable = (text: string): boolean => {
  const { username, password, hostname, pathname } = new URL(text)
  return [username, password, hostname, pathname].every((part) => decodeEscapes(part) !== null)
}

const isPostgresUrl = (text: string): boolean => {
  const url = urlIn(text)
  if (url === null || !/^postgres(ql)?:$/.test(url.protocol)) return false
  const isWhole = url.hostname !== '' && url.username !== '' && /^\/[^/]+$/.test(url.pathname)
  return isWhole && /^(\?sslmode=(verify-full|disable))?$/.test(url.search)
}

export const postgresUrl = z
  .string()
  .refine(isPostgresUrl, { error: `must be ${POSTGRES_RULE}`, abort: true })
  .refine(isDecodable, PERCENT_RULE)
  .pipe(secret)

const SQLITE = /^sqlite:(?!:memory:|file:)./

export const auditPlace = z
  .string()
  .refine((text) => SQLITE.test(text) || isPostgresUrl(text), {
    error: `must be sqlite:<path of a file>, or ${POSTGRES_RULE}`,
    abort: true,
  })
  .refine((text) => SQLITE.test(text) || isDecodable(text), PERCENT_RULE)
  .transform((text) =>
    SQLITE.test(text)
      ? { kind: 'sqlite' as const, path: text.slice('sqlite:'.length) }
      : { kind: 'postgres' as const, url: new Secret(text) },
  )

/** Without a password the Redis client would not name the user either, and would have the permissions of another. */
const hasLoneUser = (text: string): boolean => {
  const { username, password } = new URL(text)
  return username !== '' && password === ''
}

const isRedisUrl = (text: string): boolean => {
  const url = urlIn(text)
  if (url === null || !/^rediss?:$/.test(url.protocol) || text.includes('?')) return false
  return url.hostname !== '' && /^(\/\d*)?$/.test(url.pathname)
}

export const redisUrl = z
  .string()
  .refine(isRedisUrl, {
    error: 'must be redis(s)://<user>:<password>@<host>:<port>/<number>, of which all but the host may be left out',
    abort: true,
  })
  .refine(isDecodable, { ...PERCENT_RULE, abort: true })
  .refine((text) => !hasLoneUser(text), { error: 'must have a password where it has a user' })
  .pipe(secret)
