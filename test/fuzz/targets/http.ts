import assert from 'node:assert/strict'
import { isIP } from 'node:net'
import { parse, stringify } from 'node:querystring'
import express, { type Request, type Response } from 'express'
import { parseSubnets } from '../../../src/addresses.ts'
import { OUTCOMES } from '../../../src/audit/store.ts'
import { GatewayError } from '../../../src/errors.ts'
import { clientAddress, networkOf, normalizeAddress } from '../../../src/http/middleware/client-ip.ts'
import {
  cookieValues,
  SESSION_COOKIE,
  signInCookie,
  sortSignInValues,
  surplusSignIns,
} from '../../../src/http/middleware/cookies.ts'
import { checkHost, isPrivateName } from '../../../src/http/middleware/host.ts'
import { createAuthRoutes } from '../../../src/http/routes/auth-routes.ts'
import { waitSeconds } from '../../../src/http/routes/prefer.ts'
import { createRecordRoutes } from '../../../src/http/routes/record-routes.ts'
import { createTaskRoutes } from '../../../src/http/routes/task-routes.ts'
import { deadlineIn } from '../../../src/time.ts'
import { visible, visibleUserAgent } from '../../../src/visible-text.ts'

// Parsers of requests. Node reads headers as Latin-1, and no header contains a line break: it separates headers here.

const linesOf = (data: Buffer): readonly string[] => data.toString('latin1').split('\n')

/** A value of any type with these members. */
const stub = (members: object) => Object.assign(Object.create(null), members)

const caller = { via: 'api-key', issuer: null, name: 'fuzz', displayName: null, domains: null, taskTypes: null }
const requestOf = (members: object): Request =>
  Object.assign(Object.create(null), {
    headers: {},
    headersDistinct: {},
    get: () => undefined,
    context: { deadline: deadlineIn(60_000), caller: { ...caller, scopes: ['audit:read', 'tasks:read'] } },
    ...members,
  })

/** The body and the links of a response. */
const createResponse = () => {
  const sent: { body: Readonly<Record<string, unknown>>; links: Readonly<Record<string, string>> } = {
    body: {},
    links: {},
  }
  const res: Response = stub({
    json: (body: Readonly<Record<string, unknown>>) => Object.assign(sent, { body }),
    links: (links: Readonly<Record<string, string>>) => Object.assign(sent, { links: { ...sent.links, ...links } }),
    set: () => res,
    cookie: () => res,
    clearCookie: () => res,
    status: () => res,
    location: () => res,
    end: () => res,
  })
  return { res, sent }
}

/** Whether the work is done; false where the query is refused as documented. */
const isAccepted = async (work: () => Promise<void>): Promise<boolean> => {
  try {
    await work()
    return true
  } catch (error) {
    assert.ok(error instanceof GatewayError, String(error))
    assert.equal(error.code, 'query-invalid')
    assert.match(error.facts.field ?? '', /^[\w.-]{1,64}$/)
    assert.ok(error.facts.rule)
    return false
  }
}

const TRUSTED = '127.0.0.1, 10.0.0.0/8, ::1, fd00::/8'
const trusted = parseSubnets(TRUSTED) ?? assert.fail('the list is valid')

/** The address of the client by Express. */
const createExpressAddress = (list: string) => {
  const app = express().set('trust proxy', list)
  return (peer: string, forwardedFor: string): string | undefined => {
    const request = Object.create(express.request, { app: { value: app }, socket: { value: { remoteAddress: peer } } })
    return Object.assign(request, { headers: { 'x-forwarded-for': forwardedFor } }).ip
  }
}
const expressAddress = createExpressAddress(TRUSTED)

const isPlainAddress = (text: string): boolean => isIP(text) !== 0 && /^[0-9a-f:.]+$/i.test(text)

/** Of IPv6 with an end in the form of IPv4, Express reads mapped addresses only. */
const isReadByExpress = (text: string): boolean => isPlainAddress(text) && !/^(?!::ffff:).*:.*\./i.test(text)

/** Lines: the address of the peer, then the values of `X-Forwarded-For`. Express agrees on plain addresses. */
export const addresses = (data: Buffer): void => {
  const [peer = '', ...values] = linesOf(data)
  const found = clientAddress(peer, values, trusted)
  for (const address of [found.clientIp, found.peerIp]) {
    if (address === null) continue
    assert.ok(isPlainAddress(address), address)
    assert.equal(normalizeAddress(address), address)
    assert.ok(!/^::ffff:[\d.]+$/.test(address))
    assert.notEqual(networkOf(address), '')
  }
  const hops = values.join(',').split(',')
  assert.deepEqual(clientAddress(peer, [hops.map((hop) => ` \t${hop}\t `).join(',')], trusted), found)
  // From the peer on: the first that is no trusted proxy counts, and the one before where it is no address.
  const chain = [peer, ...hops.toReversed()].map(normalizeAddress)
  const end = chain.findIndex((address) => address === null || !trusted.has(address))
  assert.equal(found.clientIp, chain[end] ?? chain.at(end < 0 ? -1 : Math.max(0, end - 1)))
  if ([peer, ...hops].every(isReadByExpress)) {
    assert.equal(found.clientIp, normalizeAddress(expressAddress(peer, values.join(',')) ?? ''))
  }
}

/** The first line is a list of networks, the second an address. Express reads each accepted list likewise. */
export const subnets = (data: Buffer): void => {
  const [list = '', address = ''] = linesOf(data)
  const parsed = parseSubnets(list)
  if (parsed === null || list === '') return
  const parts = list.split(',').map((part) => part.trim())
  for (const part of parts) assert.ok(parsed.has(part.replace(/\/.*/, '')), part)
  const canonical = isPlainAddress(address) ? normalizeAddress(address) : null
  if (canonical === null || ![canonical, ...parts.map((part) => part.replace(/\/.*/, ''))].every(isReadByExpress))
    return
  const isTrusted = express().set('trust proxy', parts).get('trust proxy fn')
  assert.equal(parsed.has(canonical), isTrusted(canonical, 0))
}

/** The values of a cookie, read character by character. */
const slowCookieValues = (lines: readonly string[], name: string): readonly string[] => {
  const values: string[] = []
  for (const pair of lines.join(';').split(';')) {
    const bare = pair.replace(/^[ \t]+/, '').replace(/([^ \t])[ \t]+$/, '$1')
    if (bare.startsWith(`${name}=`)) values.push(bare.slice(name.length + 1).replace(/^[ \t]+$/, ''))
  }
  return values
}

const ADDED = [[SESSION_COOKIE.name, 'x'.repeat(600)]] as const

/** The values of `Cookie`. */
export const cookies = (data: Buffer): void => {
  const lines = linesOf(data)
  const req = requestOf({ headersDistinct: { cookie: lines } })
  const values = cookieValues(req, SESSION_COOKIE)
  assert.deepEqual(values, slowCookieValues(lines, SESSION_COOKIE.name))
  const padded = lines.flatMap((line) => line.split(';')).map((pair) => `\t ${pair} `)
  assert.deepEqual(cookieValues(requestOf({ headersDistinct: { cookie: padded } }), SESSION_COOKIE), values)
  const { transactions, markers } = sortSignInValues(values)
  assert.equal(transactions.length + markers.length, values.length)

  const surplus = surplusSignIns(req, ADDED).map(({ name }) => name)
  assert.ok(surplus.length <= 20 && new Set(surplus).size === surplus.length)
  for (const name of surplus) assert.ok(lines.join('\n').includes(name), name)
  if (surplus.length === 20) return
  const signIns = lines
    .flatMap((line) => line.split(';'))
    .map((pair) => pair.replace(/^[ \t]+|[ \t]+$/g, ''))
    .filter((pair) => /^__Host-sign-in-[0-9a-z]{9}[\w-]{9}=/.test(pair))
  const kept = signIns.filter((pair) => !surplus.includes(signInCookie(pair.slice(15, 33)).name))
  assert.ok(kept.filter((pair) => !pair.slice(34).startsWith('done.')).length <= 3)
  assert.ok(kept.length === 0 || kept.join('; ').length + 600 < 4096)
}

/** Seconds by RFC 7240, read character by character. */
const slowWaitSeconds = (field: string): number | null => {
  const preferences: string[] = []
  let [current, isQuoted] = ['', false]
  for (let at = 0; at < field.length; at += 1) {
    const character = field[at] ?? ''
    if (isQuoted && character === '\\' && at + 1 < field.length) current += character + field[++at]
    else if (!isQuoted && character === ',') {
      preferences.push(current)
      current = ''
    } else {
      if (character === '"') isQuoted = !isQuoted
      current += character
    }
  }
  const trim = (text: string): string => text.replace(/^[ \t]+/, '').replace(/[ \t]+$/, '')
  const wait = [...preferences, current].find((each) => trim(each.split(/[=;]/)[0] ?? '').toLowerCase() === 'wait')
  const [, value] = /^[^=;]*=([^;]*)/s.exec(wait ?? '') ?? []
  const [, quoted, bare] = /^(?:"(\d+)"|(\d+))$/.exec(trim(value ?? '')) ?? []
  return value === undefined || (quoted ?? bare) === undefined ? null : Number(quoted ?? bare)
}

/** The value of `Prefer`. */
export const prefer = (data: Buffer): void => {
  const field = linesOf(data).join(', ')
  const seconds = waitSeconds(field)
  assert.equal(seconds, slowWaitSeconds(field))
  assert.equal(waitSeconds(`\t ${field} \t`), seconds)
  assert.equal(waitSeconds(`respond-async, ${field}`), seconds)
}

const checkMoment = (ms: unknown): void =>
  assert.ok(ms === undefined || (typeof ms === 'number' && !Number.isNaN(new Date(ms).getTime())))

const checkText = (text: unknown): void =>
  assert.ok(text === undefined || (typeof text === 'string' && /^[^\0]{1,253}$/u.test(text.slice(0, 253))))

/** The query of `GET /cancellations`. The cursor of each response leads on from the place that it names. */
export const records = async (data: Buffer): Promise<void> => {
  const filters: Readonly<Record<string, unknown>>[] = []
  const [before, after] = [{ requestedAtMs: 1_700_000_000_000, seq: 7 }, 9]
  const routes = createRecordRoutes(
    stub({
      trail: {
        list: (filter: Readonly<Record<string, unknown>>) => {
          filters.push(filter)
          return { records: [], next: filter.before ?? before }
        },
        listFinal: (filter: Readonly<Record<string, unknown>>) => {
          filters.push(filter)
          return { records: [], next: Math.max(after, Number(filter.after)) }
        },
      },
    }),
  )
  const query = parse(data.toString('utf8'))
  const { res, sent } = createResponse()
  const ask = (asked: object) => () => routes.listCancellations(requestOf({ query: asked }), res)
  if (!(await isAccepted(ask(query)))) return
  const [filter] = filters
  assert.ok(Number.isInteger(filter?.limit) && Number(filter?.limit) >= 1 && Number(filter?.limit) <= 200)
  assert.ok(filter?.outcome === undefined || ['pending', ...OUTCOMES].includes(String(filter.outcome)))
  for (const time of [filter?.fromMs, filter?.toMs]) checkMoment(time)
  for (const text of [filter?.taskNo, filter?.caller]) checkText(text)

  assert.ok(await isAccepted(ask({ ...query, cursor: sent.body.nextCursor })))
  const { before: place = null, after: end = null, ...others } = filters[1] ?? {}
  const { before: first = null, after: firstEnd = null, ...same } = filter ?? {}
  assert.deepEqual(others, same)
  if (query.sort === undefined) assert.deepEqual(place, first ?? before)
  else assert.equal(end, Math.max(after, Number(firstEnd)))
  for (const number of [...Object.values(Object(place)), end ?? 0]) assert.ok(Number.isSafeInteger(number))
}

const PAGE_MAX = 1_000_000

/** The queries of `GET /tasks` and `GET /tasks/:taskNo/details`. The links of a page name its neighbours. */
export const tasks = async (data: Buffer): Promise<void> => {
  // Node refuses other characters in the target of a request.
  const text = data
    .subarray(1)
    .toString('latin1')
    .replace(/[^!-~]/g, '')
  const name = (data[0] ?? 0) % 2 === 0 ? 'listTasks' : 'listDetails'
  const asked: Readonly<Record<string, unknown>>[] = []
  const answer = (query: Readonly<Record<string, unknown>>) => {
    asked.push(query)
    const { page } = query
    return { items: [], page, pageSize: 1, totalItems: 1, totalPages: null, hasNext: Number(page) < PAGE_MAX }
  }
  const routes = createTaskRoutes(
    stub({
      queries: { list: answer, details: answer },
      permissions: { forRead: () => undefined },
      taskDomains: { firstOf: () => new Map() },
    }),
  )
  const ask = async (query: string) => {
    const { res, sent } = createResponse()
    Object.assign(res, { removeHeader: () => undefined })
    const url = `/tasks?${query.replaceAll('#', '%23')}`
    const req = requestOf({ query: parse(query), url, params: { taskNo: 'a' } })
    return { isAccepted: await isAccepted(() => routes[name](req, res)), sent }
  }
  const first = await ask(text)
  const [query] = asked
  if (!first.isAccepted || query === undefined) return
  const page = Number(query.page)
  assert.ok(Number.isInteger(page) && page >= 1 && page <= PAGE_MAX)
  assert.ok(Number(query.pageSize) >= 1 && Number(query.pageSize) <= (name === 'listTasks' ? 100 : 1000))
  for (const time of [query.createdFromMs, query.createdToMs]) checkMoment(time)
  assert.ok(Number(query.createdFromMs ?? 0) >= 0)
  checkText(query.domain)
  for (const [rel, step] of [
    ['next', 1],
    ['prev', -1],
  ] as const) {
    const link = first.sent.links[rel]
    assert.equal(link !== undefined, rel === 'next' ? page < PAGE_MAX : page > 1)
    if (link === undefined) continue
    assert.ok((await ask(link.slice(link.indexOf('?') + 1))).isAccepted)
    assert.deepEqual(asked.at(-1), { ...query, page: page + step })
  }
}

const OWN_NAME = 'gateway.example.com'
const PRIVATE = /^(localhost|internal|svc)$/

/** Whether no page on the web has that host, label by label. */
const isPrivateHost = (hostname: string): boolean => {
  const name = hostname.replace(/^\[|\]$/g, '').toLowerCase()
  if (isIP(name) !== 0 || name === OWN_NAME) return true
  const labels = name.replace(/\.$/, '').split('.')
  if (!labels.every((label) => /^[a-z0-9_-]+$/.test(label))) return false
  if (labels.length === 1) return !name.endsWith('.')
  return PRIVATE.test(labels.at(-1) ?? '') || (labels.length > 2 && labels.slice(-2).join('.') === 'cluster.local')
}

/** `Host`. A host that a browser sends passes only if no page on the web can have it. */
export const hosts = (data: Buffer): void => {
  const [host = '', target = '/'] = linesOf(data)
  const guard = checkHost(isPrivateName(OWN_NAME))
  let isPassed = false
  try {
    guard(requestOf({ headersDistinct: { host: [host] }, url: target }), stub({}), () => {
      isPassed = true
    })
  } catch (error) {
    assert.ok(error instanceof GatewayError && error.code === 'misdirected', String(error))
  }
  const url = URL.parse(`http://${host}`)
  const isOfBrowser = url !== null && url.host === host.toLowerCase() && target.startsWith('/')
  if (isOfBrowser && host !== '') assert.equal(isPassed, isPrivateHost(url.hostname))
}

const PUBLIC_URL = 'https://gateway.example.com'
const ORIGINS = ['https://shop.example.com', 'http://localhost:8080'] as const

/** `returnTo` of a sign-in: it leads to the gateway itself or to an origin that is configured. */
export const returns = async (data: Buffer): Promise<void> => {
  const targets: string[] = []
  const routes = createAuthRoutes(
    stub({
      signIn: {
        begin: async (returnTo: string) => {
          targets.push(returnTo)
          return { location: new URL('https://provider.example.com'), id: 'a', transaction: 'b', lifetimeMs: 1 }
        },
      },
      publicUrl: PUBLIC_URL,
      corsOrigins: ORIGINS,
      home: '/console',
    }),
  )
  const ask = (returnTo: string) =>
    isAccepted(() => routes.login(requestOf({ query: parse(stringify({ returnTo })) }), createResponse().res))
  if (!(await ask(data.toString('utf8')))) return
  const [target = ''] = targets
  assert.ok(target.length >= 1 && target.length <= 1000)
  // As the page after the sign-in resolves it: a path such as `//a` is one of the gateway.
  const url = new URL(target.startsWith('/') ? `${PUBLIC_URL}${target}` : target)
  assert.ok([PUBLIC_URL, ...ORIGINS].includes(url.origin), url.href)
  assert.deepEqual([url.username, url.password], ['', ''])
  if (target.startsWith('//')) return
  assert.ok(await ask(target))
  assert.equal(targets[1], target)
}

const INVISIBLE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u

/** `User-Agent` and texts of the upstream, in UTF-16 so that halves of surrogate pairs occur. */
export const texts = (data: Buffer): void => {
  // A copy of even length: Node 24.21 corrupts memory if it decodes an odd number of bytes at an odd address.
  const text = Buffer.from(data.subarray(0, data.length - (data.length % 2))).toString('utf16le')
  const shown = visible(text)
  assert.ok(!INVISIBLE.test(shown))
  assert.ok(shown.isWellFormed())
  assert.equal(visible(shown), shown)
  const agent = visibleUserAgent(text) ?? ''
  assert.ok(agent.length <= 256 && shown.startsWith(agent))
  assert.ok(agent === shown || shown.length > 256)
  assert.equal(visibleUserAgent(agent), agent)
}
