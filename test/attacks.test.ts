import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { type TestContext, test } from 'node:test'
import type { Scope } from '../src/callers/caller.ts'
import { asAuditor, CANARIES, cancelCalls, type StartOptions, startGateway } from './helpers/gateway.ts'
import { parseAnswer, sendBytes, statusAndCode } from './helpers/raw-http.ts'
import { SIGN_IN_ENV, sessionCookie } from './helpers/session.ts'

// Attacks by a client that knows HTTP well. Each row is one request over the wire, as it is sent.

/**
 * Its name, the start of the request, its further lines (after an empty one its body), and the result: the status, the
 * code of a problem, and the outcome on record where there is one. VICTIM is a task that could be cancelled.
 */
type Attack = readonly [name: string, start: string, lines: readonly string[], expected: string]

interface Front extends StartOptions {
  /** Lines of every request here. */
  readonly lines?: readonly string[]
  /** The address that goes upstream. */
  readonly address?: string
  readonly attacks: readonly Attack[]
}

const KEY = `X-API-Key: ${CANARIES.operatorKey}`
const READER = `X-API-Key: ${CANARIES.readerKey}`
const BEARER = 'Authorization: Bearer a.b.c'
/** More lines than Node reads by itself, and few enough bytes. */
const MANY = Array<string>(1500).fill('a:')
const CHUNKED = 'Transfer-Encoding: chunked'
const CANCEL = 'DELETE /tasks/VICTIM'
const PROBE = 'GET /livez'
const SMUGGLED = `DELETE /tasks/VICTIM HTTP/1.1\r\nHost: a\r\n${KEY}\r\n\r\n`

const cookieOf = async (...scopes: readonly Scope[]): Promise<string> => (await sessionCookie({ scopes })).cookie
const COOKIE = await cookieOf('tasks:cancel')
const SESSION = `Cookie: ${COOKIE}`
const OWN = 'Origin: https://gateway.example.com'
const SIBLING = 'https://app.gateway.example.com'
const FLAG = 'X-CSRF: 1'

const CANCELS = '202 accepted'
const BAD = '400 bad-request'
const BAD_TASK = '400 task-no-invalid'
const BAD_QUERY = '400 query-invalid'
const AMBIGUOUS = '400 credentials-ambiguous'
const UNKNOWN = '401 unauthenticated'
const REJECTED = '403 csrf-rejected'
const NO_ROUTE = '404 not-found'
const NO_METHOD = '405 method-not-allowed'

const FRONTS: Readonly<Record<string, Front>> = {
  'other names of a method': {
    lines: [KEY],
    attacks: [
      ['a header that overrides it', 'POST /tasks/VICTIM', ['X-HTTP-Method-Override: DELETE'], NO_METHOD],
      ['another such header', 'POST /tasks/VICTIM', ['X-Method-Override: DELETE'], NO_METHOD],
      ['a third one', 'POST /tasks/VICTIM', ['X-HTTP-Method: DELETE'], NO_METHOD],
      ['a header beside GET', 'GET /tasks/VICTIM', ['X-HTTP-Method-Override: DELETE'], '200'],
      ['a parameter', 'POST /tasks/VICTIM?_method=DELETE', [], NO_METHOD],
      ['a parameter beside GET', 'GET /tasks/VICTIM?_method=DELETE', [], BAD_QUERY],
      ['a field of a form', 'POST /tasks/VICTIM', ['Content-Length: 14', '', '_method=DELETE'], NO_METHOD],
      ['lower case', 'delete /tasks/VICTIM', [], BAD],
      ['a longer name', 'DELETES /tasks/VICTIM', [], BAD],
      ['the method of another cache', 'PURGE /tasks/VICTIM', [], NO_METHOD],
      ['a method that echoes', 'TRACE /tasks/VICTIM', ['X-Evil: evil'], NO_METHOD],
      ['no version', 'DELETE /tasks/VICTIM\r\n', [], BAD],
    ],
  },

  'other ways to a task': {
    lines: [KEY],
    attacks: [
      ['up, encoded', 'DELETE /tasks/%2e%2e/VICTIM', [], NO_ROUTE],
      ['up and down', 'DELETE /tasks/../tasks/VICTIM', [], NO_ROUTE],
      ['up from elsewhere', 'DELETE /me/../tasks/VICTIM', [], NO_ROUTE],
      ['up, with an encoded slash', 'DELETE /tasks/..%2fme', [], BAD_TASK],
      ['up, as some containers read it', 'DELETE /tasks/..;/VICTIM', [], NO_ROUTE],
      ['the same folder', 'DELETE /./tasks/VICTIM', [], NO_ROUTE],
      ['the same folder at the end', 'DELETE /tasks/VICTIM/.', [], NO_ROUTE],
      ['two slashes', 'DELETE //tasks/VICTIM', [], NO_ROUTE],
      ['two slashes within', 'DELETE /tasks//VICTIM', [], NO_ROUTE],
      ['a slash at the end', 'DELETE /tasks/VICTIM/', [], NO_ROUTE],
      ['an encoded slash', 'DELETE /tasks%2FVICTIM', [], NO_ROUTE],
      ['an encoded slash at the end', 'DELETE /tasks/VICTIM%2F', [], BAD_TASK],
      ['a slash encoded twice', 'DELETE /tasks%252FVICTIM', [], NO_ROUTE],
      ['a parameter of the path', 'DELETE /tasks/VICTIM;a=b', [], BAD_TASK],
      ['an empty parameter of the path', 'DELETE /tasks/VICTIM;', [], BAD_TASK],
      ['NUL', 'DELETE /tasks/VICTIM%00', [], BAD_TASK],
      ['NUL and an ending', 'DELETE /tasks/VICTIM%00.json', [], BAD_TASK],
      ['an ending', 'DELETE /tasks/VICTIM.json', [], BAD_TASK],
      ['a slash in overlong UTF-8', 'DELETE /tasks/VICTIM%c0%af', [], BAD_TASK],
      ['a dot in overlong UTF-8', 'DELETE /tasks/%c0%ae%c0%ae/VICTIM', [], NO_ROUTE],
      ['half an escape', 'DELETE /tasks/VICTIM%', [], BAD_TASK],
      ['an escape that is none', 'DELETE /tasks/VICTIM%u002f', [], BAD_TASK],
      ['upper case', 'DELETE /TASKS/VICTIM', [], NO_ROUTE],
      ['a backslash', 'DELETE /tasks\\VICTIM', [], NO_ROUTE],
      ['backslashes', 'DELETE \\tasks\\VICTIM', [], BAD],
      ['a blank of Latin-1 at the end', 'DELETE /tasks/VICTIM\xa0', [], BAD],
      ['a backslash and such a blank', 'DELETE /tasks\\VICTIM\xa0', [], BAD],
      ['such a blank behind the query', 'DELETE /tasks\\VICTIM?lang=en\xa0', [], BAD],
      ['a blank, encoded', 'DELETE /tasks/VICTIM%20', [], BAD_TASK],
      ['a line of its own', 'DELETE /tasks/VICTIM%0d%0aEvil:evil', [], BAD_TASK],
      ['a wildcard', 'DELETE /tasks/*', [], BAD_TASK],
      ['a list', 'DELETE /tasks/VICTIM,VICTIM', [], BAD_TASK],
      ['a fragment', 'DELETE /tasks/VICTIM#evil', [], BAD],
      ['the whole server', 'DELETE *', [], NO_ROUTE],
      ['no path', 'DELETE tasks/VICTIM', [], BAD],
      ['an address without a path', 'DELETE http://evil.example', [], NO_ROUTE],
      ['an address of another kind', 'DELETE ftp://evil.example/tasks/VICTIM', [], BAD],
      ['an address with a user', 'DELETE http://evil@a/tasks/VICTIM', [], BAD],
      ['an address with backslashes', 'DELETE http://evil.example\\tasks\\VICTIM', [], BAD],
      ['an address without a host', 'DELETE http:///tasks/VICTIM', [], BAD],
      ['an address, as proxies send it', 'DELETE http://evil.example/tasks/VICTIM', [], CANCELS],
      ['an escape of a letter', 'DELETE /%74asks/VICTIM', [], NO_ROUTE],
    ],
  },

  'too much': {
    lines: [KEY],
    attacks: [
      ['a long header', CANCEL, [`X: ${'x'.repeat(17_000)}`], '431 headers-too-large'],
      ['many headers', CANCEL, Array<string>(20_000).fill('a:'), '431 headers-too-large'],
      ['a long query', `DELETE /tasks/VICTIM?lang=${'x'.repeat(17_000)}`, [], '431 headers-too-large'],
      ['a query that just fits', `DELETE /tasks/VICTIM?lang=${'x'.repeat(15_000)}`, [], BAD_QUERY],
      ['many parameters', `GET /tasks?${'page=1&'.repeat(2000)}`, [], BAD_QUERY],
      ['a long number', `DELETE /tasks/${'1'.repeat(10_000)}`, [], BAD_TASK],
      ['a deep path', `DELETE ${'/tasks'.repeat(1000)}`, [], NO_ROUTE],
      ['a second key behind many headers', CANCEL, [...MANY, KEY], AMBIGUOUS],
      ['a second host behind many headers', CANCEL, [...MANY, 'Host: b'], BAD],
    ],
  },

  'what a browser adds by itself': {
    env: SIGN_IN_ENV,
    attacks: [
      ['nothing: a page of the gateway’s own', CANCEL, [SESSION, OWN, FLAG], CANCELS],
      [
        'a session, to a form of another site',
        'POST /tasks/VICTIM',
        [SESSION, 'Origin: https://evil.example'],
        NO_METHOD,
      ],
      ['a session, without the header', CANCEL, [SESSION, OWN], REJECTED],
      ['a session, with another value', CANCEL, [SESSION, OWN, 'X-CSRF: evil'], REJECTED],
      ['a session, with the header twice', CANCEL, [SESSION, OWN, FLAG, FLAG], REJECTED],
      ['a session, without an origin', CANCEL, [SESSION, FLAG], REJECTED],
      ['a session, with two origins', CANCEL, [SESSION, OWN, OWN, FLAG], REJECTED],
      ['a session, from a sibling', CANCEL, [SESSION, `Origin: ${SIBLING}`, FLAG], REJECTED],
      [
        'a session, from a sibling in the name of the page',
        CANCEL,
        [SESSION, `Referer: ${OWN.slice(8)}/`, FLAG],
        REJECTED,
      ],
      ['a session, from a sandbox', CANCEL, [SESSION, 'Origin: null', FLAG], REJECTED],
      ['a session, from the host that is asked', CANCEL, [SESSION, 'Origin: http://a', FLAG], REJECTED],
      ['a session, from an origin in upper case', CANCEL, [SESSION, OWN.toUpperCase(), FLAG], REJECTED],
      ['a session and a key', CANCEL, [SESSION, KEY, OWN, FLAG], AMBIGUOUS],
      ['a session and a token', CANCEL, [SESSION, BEARER, OWN, FLAG], AMBIGUOUS],
      ['two sessions', CANCEL, [`${SESSION}; ${COOKIE}`, OWN, FLAG], AMBIGUOUS],
      ['two sessions on two lines', CANCEL, [SESSION, SESSION, OWN, FLAG], AMBIGUOUS],
      ['a session behind many headers', CANCEL, [KEY, ...MANY, SESSION], AMBIGUOUS],
      ['an empty cookie beside a session', CANCEL, [`Cookie: __Host-session=; ${COOKIE}`, OWN, FLAG], CANCELS],
      ['two sessions of a sibling’s making', CANCEL, ['Cookie: __Host-session=; __Host-session=x', OWN, FLAG], UNKNOWN],
      ['a session of evil bytes before its name', CANCEL, [`Cookie: \xa0${COOKIE}`, OWN, FLAG], UNKNOWN],
      ['a session of a sibling’s making', CANCEL, ['Cookie: __Host-session=evil', OWN, FLAG], UNKNOWN],
      ['a session under a name that siblings can set', CANCEL, [SESSION.replace('__Host-', ''), OWN, FLAG], UNKNOWN],
      ['a session under a name in lower case', CANCEL, [SESSION.replace('H', 'h'), OWN, FLAG], UNKNOWN],
      ['a session that was shortened', CANCEL, [SESSION.slice(0, -9), OWN, FLAG], UNKNOWN],
      [
        'a session that may only read',
        CANCEL,
        [`Cookie: ${await cookieOf('tasks:read')}`, OWN, FLAG],
        '403 forbidden refused',
      ],
      ['a session, to sign out', 'POST /auth/logout', [SESSION, 'Origin: https://evil.example', FLAG], REJECTED],
      ['a session, to sign out by a link', 'GET /auth/logout', [SESSION], NO_METHOD],
      ['the sign-in of somebody else', 'GET /auth/callback?code=evil&state=evil', [SESSION], '400 sign-in-failed'],
      ['a sign-in that leads away', 'GET /auth/login?returnTo=//evil.example', [], BAD_QUERY],
    ],
  },

  'credentials in many places': {
    attacks: [
      ['two keys', CANCEL, [KEY, KEY], AMBIGUOUS],
      ['a wrong key and a right one', CANCEL, ['X-API-Key: evil', KEY], AMBIGUOUS],
      ['a right key and an empty one', CANCEL, [KEY, 'x-api-key:'], AMBIGUOUS],
      ['a key and a token', CANCEL, [KEY, BEARER], AMBIGUOUS],
      ['two tokens', CANCEL, [BEARER, BEARER], AMBIGUOUS],
      ['keys in one line', CANCEL, [`${KEY}, ${CANARIES.operatorKey}`], UNKNOWN],
      ['tokens in one line', CANCEL, [`${BEARER}, Bearer a.b.c`], UNKNOWN],
      ['a key under another name', CANCEL, [KEY.replace('API-Key', 'API_Key')], UNKNOWN],
      ['a key before a colon and a blank', CANCEL, [KEY.replace(':', ' :')], BAD],
      ['a key on a line that goes on', CANCEL, [KEY.replace(': ', ':\r\n ')], BAD],
      ['a key for a proxy', CANCEL, [`Proxy-Authorization: Bearer ${CANARIES.operatorKey}`], UNKNOWN],
      ['a key in the query', `DELETE /tasks/VICTIM?X-API-Key=${CANARIES.operatorKey}`, [], UNKNOWN],
      ['a key in the address', `DELETE http://a:${CANARIES.operatorKey}@a/tasks/VICTIM`, [], BAD],
      ['a key behind the body', CANCEL, [CHUNKED, 'Trailer: X-API-Key', '', '0', KEY, '', ''], UNKNOWN],
      ['a key that may only read', CANCEL, [READER], '403 forbidden refused'],
      ['scopes of its own', CANCEL, [READER, 'X-Scopes: tasks:cancel', 'X-Caller: operator'], '403 forbidden refused'],
    ],
  },

  'one request inside another': {
    lines: [KEY],
    attacks: [
      ['a length and chunks', PROBE, ['Content-Length: 5', CHUNKED, '', '0', '', SMUGGLED], BAD],
      ['chunks and a length', PROBE, [CHUNKED, 'Content-Length: 5', '', '0', '', SMUGGLED], BAD],
      ['two lengths', PROBE, ['Content-Length: 0', 'Content-Length: 5', '', SMUGGLED], BAD],
      ['two lengths in one line', PROBE, ['Content-Length: 0, 5', '', SMUGGLED], BAD],
      ['a length with a sign', PROBE, ['Content-Length: +0', '', SMUGGLED], BAD],
      ['a length below nothing', PROBE, ['Content-Length: -1', '', SMUGGLED], BAD],
      ['a length in hex', PROBE, ['Content-Length: 0x0', '', SMUGGLED], BAD],
      ['a length that overflows', PROBE, ['Content-Length: 18446744073709551616', '', SMUGGLED], BAD],
      ['a coding that is none', PROBE, ['Transfer-Encoding: xchunked', '', '0', '', SMUGGLED], BAD],
      ['a coding after chunks', PROBE, ['Transfer-Encoding: chunked, identity', '', '0', '', SMUGGLED], BAD],
      ['a coding in two lines', PROBE, [CHUNKED, 'Transfer-Encoding: evil', '', '0', '', SMUGGLED], BAD],
      ['a coding before a blank', PROBE, ['Transfer-Encoding : chunked', '', '0', '', SMUGGLED], BAD],
      ['a coding after a tab of another kind', PROBE, ['Transfer-Encoding:\x0bchunked', '', '0', '', SMUGGLED], BAD],
      ['lines that end with LF', 'GET /livez HTTP/1.1\nX: y', ['', SMUGGLED], BAD],
      ['a chunk that ends with LF', PROBE, [CHUNKED, '', '1\nx', '0', '', SMUGGLED], BAD],
      ['a line that begins with CR', PROBE, ['X: y\r', 'Content-Length: 0', '', SMUGGLED], BAD],
      [
        'a cancel as the body of another',
        PROBE,
        [`Content-Length: ${SMUGGLED.replace('VICTIM', randomUUID()).length}`, '', SMUGGLED],
        '200',
      ],
    ],
  },

  'orders to those between': {
    lines: [KEY],
    attacks: [
      ['to cut the key', CANCEL, ['Connection: close, X-API-Key'], CANCELS],
      ['to cut the address', CANCEL, ['Connection: X-Forwarded-For', 'X-Forwarded-For: 6.6.6.6'], CANCELS],
      [
        'to change to HTTP/2',
        'GET /me',
        ['Connection: Upgrade, HTTP2-Settings', 'Upgrade: h2c', 'HTTP2-Settings: AAMAAABk'],
        '200',
      ],
      ['to change to a socket', 'GET /me', ['Connection: Upgrade', 'Upgrade: websocket'], '200'],
      [
        'to ask another path',
        'DELETE /nowhere',
        ['X-Original-URL: /tasks/VICTIM', 'X-Rewrite-URL: /tasks/VICTIM'],
        NO_ROUTE,
      ],
      [
        'to ask another path with another method',
        'GET /tasks/VICTIM',
        ['X-Original-URL: /tasks/evil', 'X-Original-Method: DELETE'],
        '200',
      ],
      [
        'to put something before the path',
        'GET /tasks',
        ['X-Forwarded-Prefix: /evil', 'X-Forwarded-Path: /evil'],
        '200',
      ],
    ],
  },

  'an address of its own': {
    lines: [KEY],
    attacks: [
      ['in the header of proxies', CANCEL, ['X-Forwarded-For: 6.6.6.6'], CANCELS],
      ['in that header, as loopback', CANCEL, ['X-Forwarded-For: 127.0.0.9'], CANCELS],
      ['in the standard one', CANCEL, ['Forwarded: for=6.6.6.6;host=evil.example'], CANCELS],
      ['in others', CANCEL, ['X-Real-IP: 6.6.6.6', 'CF-Connecting-IP: 6.6.6.6', 'True-Client-IP: 6.6.6.6'], CANCELS],
      ['in the query', 'DELETE /tasks/VICTIM?UserClientIp=6.6.6.6', [], CANCELS],
    ],
  },

  'an address of its own, through a proxy': {
    env: { TRUST_PROXY: '127.0.0.1' },
    lines: [KEY, 'X-Forwarded-For: 6.6.6.6'],
    address: '192.0.2.1',
    attacks: [
      ['before that of the proxy', CANCEL, ['X-Forwarded-For: 192.0.2.1'], CANCELS],
      ['in the same line', CANCEL, ['X-Forwarded-For: 6.6.6.6, 192.0.2.1'], CANCELS],
      ['so far before it that it may be lost', CANCEL, [...MANY, 'X-Forwarded-For: 192.0.2.1'], CANCELS],
    ],
  },

  'names that every object has': {
    lines: [KEY],
    attacks: [
      ['a prototype', 'GET /tasks?__proto__=evil', [], BAD_QUERY],
      ['a prototype of a cancel', 'DELETE /tasks/VICTIM?__proto__[lang]=evil', [], CANCELS],
      ['a field of a prototype', 'GET /tasks?__proto__[page]=1', [], BAD_QUERY],
      ['a constructor', 'GET /tasks?constructor=evil', [], BAD_QUERY],
      ['a field of a constructor', 'GET /tasks?constructor[prototype][page]=1', [], BAD_QUERY],
      ['a method', 'GET /tasks?toString=1&hasOwnProperty=1', [], BAD_QUERY],
      ['two values', 'GET /tasks?page=1&page=2', [], BAD_QUERY],
      ['a list', 'GET /tasks?page[]=1', [], BAD_QUERY],
      ['an operator', 'GET /tasks?page[$gt]=1', [], BAD_QUERY],
      ['two languages', 'DELETE /tasks/VICTIM?lang=en&lang=zh', [], BAD_QUERY],
      ['a parameter of the upstream', 'DELETE /tasks/VICTIM?TaskNo=evil&Action=evil', [], CANCELS],
      ['the name of a task', 'GET /tasks/__proto__', [], '404 task-not-found'],
      ['the code of a problem', 'GET /problems/constructor', [], NO_ROUTE],
    ],
  },

  'lines in values': {
    lines: [KEY],
    attacks: [
      ['of the language', 'DELETE /tasks/VICTIM?lang=zh%0d%0aEvil:evil', [], BAD_QUERY],
      ['of the header of languages', CANCEL, ['Accept-Language: zh%0d%0aEvil: evil'], CANCELS],
      ['of an id', 'GET /nowhere', ['X-Request-Id: evil%0d%0aEvil: evil'], NO_ROUTE],
      ['of a preference', CANCEL, ['Prefer: wait="1, evil=evil"; evil'], CANCELS],
      ['of an ETag', 'GET /tasks/VICTIM', ['If-None-Match: "evil", W/"evil'], '200'],
      ['of a name that is a colour', CANCEL, ['User-Agent: \x1b[31mevil'], BAD],
      ['with a bare CR', CANCEL, ['X: y\rEvil: evil'], BAD],
    ],
  },
}

const bytesOf = (start: string, lines: readonly string[]): string => {
  const version = / HTTP\/|\n$/.test(start) ? '' : ' HTTP/1.1'
  const end = lines.includes('') ? [] : ['', '']
  return [`${start}${version}`, 'Host: a', 'Connection: close', ...lines, ...end].join('\r\n')
}

/** Sends an attack on a task of its own, and returns the response, the upstream calls and the audit record. */
const attacker = async (t: TestContext, { lines: always = [], ...options }: Front) => {
  const { url, upstream, api } = await startGateway(t, options)
  const onRecord = async () => (await api.get('/cancellations?limit=200').set(asAuditor)).body.items

  return async ([, start, lines]: Attack) => {
    const taskNo = upstream.addTask()
    const [sentBefore, recordBefore] = [cancelCalls(upstream).length, await onRecord()]
    const bytes = bytesOf(start, [...always, ...lines]).replaceAll('VICTIM', taskNo)
    const answer = await sendBytes(url, bytes)
    const record = await onRecord()
    const added = record.slice(0, record.length - recordBefore.length)
    const sent = cancelCalls(upstream).slice(sentBefore)
    const [status, code = null] = statusAndCode(parseAnswer(answer))
    return { taskNo, answer, status, code, added, sent }
  }
}

for (const [name, front] of Object.entries(FRONTS)) {
  test(`attacks by ${name} come to nothing`, async (t) => {
    const attack = await attacker(t, front)
    for (const row of front.attacks) {
      await t.test(row[0], async () => {
        const { taskNo, answer, status, code, added, sent } = await attack(row)
        const outcomes = added.map(({ outcome }: { outcome: string }) => outcome)
        assert.equal([status, code, ...outcomes].filter(Boolean).join(' '), row[3])
        assert.equal(sent.length, outcomes.filter((it: string) => it !== 'refused').length)
        for (const { params } of sent)
          assert.deepEqual([params.TaskNo, params.UserClientIp], [taskNo, front.address ?? '127.0.0.1'])
        assert.equal(answer.match(/^HTTP\/1\.1 /gm)?.length, 1)
        assert.doesNotMatch(answer, /evil/i)
      })
    }
  })
}

/** Forged names of the gateway, which could lead other callers to another host. */
const MISLEADING: readonly (readonly [string, ...string[]])[] = [
  ['/tasks/VICTIM', 'Host: evil.example'],
  ['/tasks/VICTIM', 'Host: evil.example:80', 'X-Forwarded-Proto: evil'],
  ['/tasks/VICTIM', 'Host: a', 'X-Forwarded-Host: evil.example', 'X-Forwarded-Server: evil.example'],
  ['/tasks/VICTIM', 'Host: a', 'X-Host: evil.example', 'X-HTTP-Host-Override: evil.example'],
  ['/tasks/VICTIM', 'Host: a', 'Forwarded: host=evil.example;proto=evil'],
  ['/tasks/VICTIM', 'Host: a', 'Referer: http://evil.example/', 'Origin: http://evil.example'],
  ['http://evil.example/tasks/VICTIM', 'Host: a'],
]

for (const [PUBLIC_URL, base] of [
  ['', ''],
  ['https://gateway.example.com', 'https://gateway.example.com'],
] as const) {
  test(`addresses in answers are built from ${base || 'nothing'}, whatever a request says`, async (t) => {
    const { url, upstream } = await startGateway(t, { env: { PUBLIC_URL } })
    for (const [path, ...lines] of MISLEADING) {
      const taskNo = upstream.addTask()
      const send = (method: string, target: string) =>
        sendBytes(url, [`${method} ${target} HTTP/1.1`, 'Connection: close', KEY, ...lines, '', ''].join('\r\n'))
      const cancelled = await send('DELETE', path.replace('VICTIM', taskNo))
      const refused = await send('DELETE', path.replace('VICTIM', 'a.b'))
      const listed = await send('GET', path.replace('/VICTIM', '?pageSize=1'))
      assert.equal(parseAnswer(cancelled).headers.location, `${base}/tasks/${taskNo}`)
      assert.equal(JSON.parse(parseAnswer(refused).body).type, `${base}/problems/task-no-invalid`)
      for (const answer of [cancelled, refused, listed]) assert.doesNotMatch(answer, /evil/)
    }
  })
}
