import assert from 'node:assert/strict'
import { createPublicKey } from 'node:crypto'
import { domainToASCII, domainToUnicode } from 'node:url'
import { importJWK, SignJWT } from 'jose'
import * as z from 'zod'
import { parseApiKeys } from '../../../src/callers/api-keys.ts'
import { SCOPES } from '../../../src/callers/caller.ts'
import { displayNameIn, grantIn, subject } from '../../../src/callers/claims.ts'
import { coversDomain, toDomain, toDomainPattern } from '../../../src/callers/domain-names.ts'
import { parseGrants } from '../../../src/callers/grants.ts'
import { createTokens } from '../../../src/callers/jwt.ts'
import { createSeal } from '../../../src/callers/seal.ts'
import { sortKeys } from '../../../src/callers/usable-keys.ts'
import { Secret } from '../../../src/secret.ts'
import { isoTime, parseMoment } from '../../../src/time.ts'
import { visible } from '../../../src/visible-text.ts'
import { parsedOrUndefined } from '../parsed.ts'

// Parsers of what decides who a caller is and what it may do, and of times in queries.

const LABEL = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/

const isCovered = (pattern: string, domain: string): boolean => {
  const [wanted, given] = [pattern.split('.').reverse(), domain.split('.').reverse()]
  if (wanted.at(-1) !== '*') return pattern === domain
  return given.length >= wanted.length && wanted.slice(0, -1).every((label, at) => label === given[at])
}

/** The first line is a pattern, the second a name. Node's conversion agrees on each accepted name. */
export const domains = (data: Buffer): void => {
  const [first = '', second = first] = data.toString('utf8').split('\n')
  const [pattern, domain] = [toDomainPattern(first), toDomain(second)]
  for (const name of [pattern?.replace(/^\*\./, ''), domain]) {
    if (name === undefined || name === null) continue
    const labels = name.split('.')
    assert.ok(name.length <= 253 && labels.length >= 2 && labels.every((label) => LABEL.test(label)), name)
    assert.deepEqual([toDomain(name), toDomain(`${name}.`), toDomain(name.toUpperCase())], [name, name, name])
    assert.equal(domainToASCII(name), name)
    // Node takes invalid A-labels as they are, but only beside others in ASCII.
    const unicode = domainToUnicode(name)
    if (!unicode.includes('xn--')) assert.equal(toDomain(unicode), name)
    assert.equal(new URL(`http://${name}`).hostname, name)
  }
  if (domain !== null) assert.equal(domainToASCII(second.toLowerCase().replace(/\.$/, '')), domain)
  if (pattern !== null && domain !== null) {
    assert.equal(coversDomain(pattern, domain), isCovered(pattern, domain))
    assert.ok(!coversDomain(`*.${domain}`, domain))
  }
}

/** Times in queries. `Date` reads the same moment, and each time that the gateway writes is read. */
export const moments = (data: Buffer): void => {
  const text = data.toString('utf8')
  const at = parseMoment(text)
  const date = new Date(text)
  const isWritten = !Number.isNaN(date.getTime()) && date.toISOString() === text && text.length === 24
  if (isWritten) assert.equal(at, date.getTime())
  if (at === null) return
  assert.equal(at, date.getTime())
  assert.match(text, /^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d))?$/)
  const iso = isoTime(at) ?? ''
  if (iso.length === 24) assert.equal(parseMoment(iso), at)
}

const KEYS_MAX = 20
const FAULTS: readonly string[] = [
  'has a faulty member',
  'is of a kind that is not supported',
  'is not for signatures',
  'is for an algorithm that is not supported',
  'lacks a member',
  'cannot be imported',
  'is too short',
  'has an unsafe exponent',
]
const PUBLIC_MEMBERS = ['kty', 'kid', 'alg', 'use', 'crv', 'x', 'y', 'n', 'e']

/** Key sets: Node imports each usable key as a public one, and no private member is kept. */
export const keys = async (data: Buffer): Promise<void> => {
  const parsed = parsedOrUndefined(data.toString('utf8'))
  const entries = (Array.isArray(parsed) ? parsed : [parsed]).slice(0, KEYS_MAX)
  const { usable, unusable } = await sortKeys(entries)
  assert.ok(usable.length <= entries.length)
  for (const fault of unusable.values()) assert.ok(FAULTS.includes(fault), fault)
  for (const key of usable) {
    assert.ok(Object.keys(key).every((name) => PUBLIC_MEMBERS.includes(name)))
    const { asymmetricKeyType = '', asymmetricKeyDetails: details } = createPublicKey({ key, format: 'jwk' })
    assert.ok(['rsa', 'ec', 'ed25519'].includes(asymmetricKeyType))
    if (asymmetricKeyType !== 'rsa') continue
    assert.ok((details?.modulusLength ?? 0) >= 2048)
    assert.ok((details?.publicExponent ?? 0n) % 2n === 1n && (details?.publicExponent ?? 0n) > 1n)
  }
}

/** The key of RFC 8037, appendix A. */
const KEY = {
  kty: 'OKP',
  crv: 'Ed25519',
  d: 'nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A',
  x: '11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo',
}
const NOW_MS = Date.UTC(2026, 0, 1)
const [ISSUER, AUDIENCE] = ['https://issuer.example.com', 'gateway']
const ALGORITHMS = ['EdDSA', 'Ed25519']

/** Tokens that prove something. Signatures of this algorithm are the same each time. */
const signedTokens = async (): Promise<readonly string[]> => {
  const key = await importJWK(KEY, 'EdDSA')
  const sign = (payload: Readonly<Record<string, unknown>>, header: Readonly<Record<string, unknown>> = {}) =>
    new SignJWT(payload)
      .setProtectedHeader({ alg: 'EdDSA', ...header })
      .setIssuer(ISSUER)
      .setAudience(AUDIENCE)
      .setExpirationTime(NOW_MS / 1000 + 3600)
      .sign(key)
  return Promise.all([
    sign({ sub: 'shop', scope: 'tasks:cancel' }),
    sign({ sub: 'a', iat: 1 }, { typ: 'at+jwt', kid: 'b' }),
  ])
}

const silent = Object.assign(Object.create(null), { info: () => undefined })
const { d: _, ...publicKey } = KEY
const claimNames = { scopeClaim: 'scope', domainsClaim: 'domains', taskTypesClaim: 'types' }

let tokenParts: ReturnType<typeof prepareTokens> | undefined
const prepareTokens = async () => {
  const key = await importJWK(publicKey, 'EdDSA')
  const all = await signedTokens()
  const contents = new Set(all.map((token) => token.slice(0, token.lastIndexOf('.'))))
  return { key, signed: { tokens: new Set(all), contents } }
}

/** Tokens: one whose content was not signed proves nothing. */
export const tokens = async (data: Buffer): Promise<void> => {
  tokenParts ??= prepareTokens()
  const { key, signed } = await tokenParts
  const keySet = { keyFor: async () => key, version: () => 1, renew: async () => false }
  const { verify, cached } = createTokens({
    claimNames,
    nameClaim: 'name',
    issuer: ISSUER,
    audience: AUDIENCE,
    algorithms: ALGORITHMS,
    keySet: Object.assign(Object.create(null), keySet),
    grants: null,
    log: silent,
    now: () => NOW_MS,
  })
  const token = data.toString('latin1')
  const caller = await verify(token)
  if (caller !== undefined) assert.ok(signed.contents.has(token.slice(0, token.lastIndexOf('.'))))
  if (signed.tokens.has(token)) assert.ok(caller)
  assert.deepEqual(cached(token), caller)
}

/** Claims of tokens: scopes that are named, and restrictions that leave nothing where a part is faulty. */
export const claims = (data: Buffer): void => {
  const parsed = z.record(z.string(), z.unknown()).safeParse(parsedOrUndefined(data.toString('utf8')))
  if (!parsed.success) return
  const grant = grantIn(parsed.data, claimNames)
  const { scope, scp, domains: listed, types } = parsed.data
  const named = JSON.stringify([scope, scp])
  for (const each of grant.scopes) assert.ok(SCOPES.includes(each) && named.includes(each))
  assert.equal(new Set(grant.scopes).size, grant.scopes.length)
  for (const pattern of grant.domains ?? []) assert.equal(toDomainPattern(pattern), pattern)
  for (const type of grant.taskTypes ?? []) assert.match(type, /^[\w.-]{1,64}$/)
  assert.ok(grant.domains !== null && grant.taskTypes !== null)
  if (grant.domains.length > 0) assert.equal(Array.isArray(listed) && listed.length, grant.domains.length)
  if (grant.taskTypes.length > 0) assert.deepEqual(types, grant.taskTypes)
  assert.deepEqual(grantIn(parsed.data, { ...claimNames, domainsClaim: undefined }).domains, null)

  const name = displayNameIn(parsed.data, 'name')
  assert.equal(displayNameIn(parsed.data, null), null)
  if (name !== null) {
    assert.ok(name !== '' && name.length <= 128)
    assert.equal(visible(name), name)
    assert.equal(name.normalize('NFC'), name)
  }
  const sub = subject.safeParse(parsed.data.sub)
  if (sub.success) assert.equal(visible(sub.data), sub.data)
}

const RULE =
  /^(entry \d+(, (name|sha256|scopes|expiresAt|domains|taskTypes|issuer|sub|\d+))*: )?(must [^"\\]{1,90}|has a field that is not known|Invalid input: expected object, received \w+)$/

/** Files of keys and of grants: a rule names a place, never a value. */
export const entries = (data: Buffer): void => {
  const text = data.toString('utf8')
  const [ofKeys, ofGrants] = [parseApiKeys(text), parseGrants(text)]
  for (const parsed of [ofKeys, ofGrants]) {
    if (!parsed.ok) assert.match(parsed.rule.replace(/\{"[^}]*\}/, 'entries'), RULE)
    assert.equal(parsed.ok && parsed.entries.length > 0 ? Array.isArray(parsedOrUndefined(text.trim())) : true, true)
  }
  if (ofKeys.ok) {
    const hashes = ofKeys.entries.flatMap((entry) => entry.hashes.map((hash) => hash.toString('hex')))
    assert.ok(hashes.every((hash) => hash.length === 64) && new Set(hashes).size === hashes.length)
    for (const { caller, expiresAtMs } of ofKeys.entries) {
      assert.ok(caller.name.trim() === caller.name && caller.name.length >= 1 && caller.name.length <= 128)
      assert.ok(caller.scopes.every((scope) => SCOPES.includes(scope)))
      assert.ok(expiresAtMs === null || isoTime(expiresAtMs) !== null)
    }
  }
  if (ofGrants.ok) {
    const names = ofGrants.entries.map(({ issuer, sub }) => JSON.stringify([issuer, sub]))
    assert.equal(new Set(names).size, names.length)
  }
}

const SEALED = { use: 'fuzz' } as const
const sealSchema = z.strictObject({ use: z.literal(SEALED.use) })
const seal = createSeal([new Secret('the secret of the seals of this test')], 'fuzz', sealSchema)

/** Sealed cookies, one a line: only what was sealed opens. */
export const seals = async (data: Buffer): Promise<void> => {
  const values = data.toString('latin1').split('\n')
  const opened = await seal.unseal(values)
  assert.ok(opened.length <= 4)
  for (const value of opened) assert.deepEqual(value, SEALED)
}
