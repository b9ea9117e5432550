import fc from 'fast-check'

// Fuzzed requests: well-formed requests with arbitrary content, and mutated bytes of such requests.

export interface FuzzRequest {
  readonly method: string
  readonly target: string
  /** The whole request, with one character for each byte. */
  readonly bytes: string
}

/** Values for requests, valid and invalid. */
export interface RequestParts {
  readonly taskNos: readonly string[]
  readonly apiKeys: readonly string[]
  readonly tokens: readonly string[]
  readonly cookies: readonly string[]
  readonly origins: readonly string[]
}

const SAFE = [...'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-']
// Characters that a header value may contain: tab, visible ASCII and the upper half of ISO 8859-1.
const VISIBLE = ['\t', ...Array.from({ length: 223 }, (_, at) => String.fromCharCode(32 + at))].filter(
  (char) => char !== '\x7f',
)
const IN_TARGET = [...Array.from({ length: 94 }, (_, at) => String.fromCharCode(33 + at)), '\xa0', '\xff']

const safe = (max: number) => fc.string({ unit: fc.constantFrom(...SAFE), minLength: 1, maxLength: max })
const visible = (max: number) => fc.string({ unit: fc.constantFrom(...VISIBLE), maxLength: max })
const inTarget = (max: number) => fc.string({ unit: fc.constantFrom(...IN_TARGET), maxLength: max })
const escaped = fc.uint8Array({ maxLength: 6 }).map((bytes) => [...bytes].map((byte) => `%${hex(byte)}`).join(''))
const hex = (byte: number): string => byte.toString(16).padStart(2, '0')

const method = fc.oneof(
  { weight: 8, arbitrary: fc.constantFrom('DELETE', 'GET') },
  { weight: 2, arbitrary: fc.constantFrom('POST', 'PUT', 'PATCH', 'HEAD', 'OPTIONS', 'QUERY', 'TRACE', 'PROPFIND') },
  { weight: 1, arbitrary: fc.constantFrom('BREW', 'delete', 'PRI') },
)

const PATHS = [
  '/me',
  '/tasks',
  '/cancellations',
  '/livez',
  '/readyz',
  '/openapi.json',
  '/docs',
  '/console',
  '/auth/login',
  '/auth/callback',
  '/auth/logout',
  '/problems',
  '/problems/forbidden',
  '/sandbox/calls',
  '*',
] as const

const pathOf = ({ taskNos }: RequestParts) => {
  const taskNo = fc.oneof(
    { weight: 6, arbitrary: fc.constantFrom(...taskNos) },
    { weight: 6, arbitrary: safe(20) },
    { weight: 1, arbitrary: safe(70) },
    { weight: 2, arbitrary: escaped },
    { weight: 2, arbitrary: inTarget(12) },
  )
  return fc.oneof(
    { weight: 8, arbitrary: taskNo.map((no) => `/tasks/${no}`) },
    { weight: 2, arbitrary: taskNo.map((no) => `/tasks/${no}/details`) },
    { weight: 4, arbitrary: fc.constantFrom(...PATHS) },
    { weight: 1, arbitrary: fc.oneof(safe(20), fc.uuid()).map((id) => `/cancellations/${id}`) },
    { weight: 1, arbitrary: safe(12).map((code) => `/problems/${code}`) },
    { weight: 1, arbitrary: inTarget(40).map((path) => `/${path}`) },
    { weight: 1, arbitrary: taskNo.map((no) => `http://127.0.0.1/tasks/${no}`) },
  )
}

const PARAMETERS = [
  ...[
    'lang',
    'page',
    'pageSize',
    'createdFrom',
    'createdTo',
    'status',
    'domain',
    'taskNo',
    'caller',
    'outcome',
    'from',
  ],
  ...['to', 'limit', 'cursor', 'state', 'code', 'iss', 'error', '__proto__', 'constructor', 'page[]', 'page[a]'],
] as const

const parameter = fc.tuple(
  fc.oneof({ weight: 6, arbitrary: fc.constantFrom(...PARAMETERS) }, { weight: 1, arbitrary: inTarget(8) }),
  fc.oneof(
    fc.integer().map(String),
    fc.constantFrom('zh', 'en', '1', '1e9', '-0', '0x10', 'accepted', 'waiting', 'a.example.com', '2026-02-30', 'null'),
    fc.date({ noInvalidDate: true }).map((date) => date.toISOString()),
    safe(40),
    escaped,
    inTarget(12),
  ),
)

const query = fc
  .oneof({ weight: 2, arbitrary: fc.constant([]) }, { weight: 1, arbitrary: fc.array(parameter, { maxLength: 4 }) })
  .map((pairs) => (pairs.length === 0 ? '' : `?${pairs.map(([name, value]) => `${name}=${value}`).join('&')}`))

const ADDRESSES = [
  '1.2.3.4',
  '[2001:db8::1]:443',
  '::ffff:1.2.3.4',
  'unknown',
  '999.1.1.1',
  '127.0.0.1',
  '::1%lo',
  '',
] as const

const headerLine = (name: string, value: fc.Arbitrary<string>) => value.map((it) => `${name}: ${it}`)

/** Credentials of one caller, or of several. */
const credentialsOf = ({ apiKeys, tokens, cookies, origins }: RequestParts) => {
  const key = fc.oneof({ weight: 8, arbitrary: fc.constantFrom(...apiKeys) }, visible(30))
  const token = fc.oneof({ weight: 4, arbitrary: fc.constantFrom(...tokens) }, visible(40))
  const cookie = fc.oneof({ weight: 4, arbitrary: fc.constantFrom(...cookies) }, visible(60))
  const origin = fc.oneof(
    { weight: 4, arbitrary: fc.constantFrom(...origins, 'null', 'https://evil.example') },
    visible(20),
  )
  const one = fc.oneof(
    { weight: 6, arbitrary: key.map((it) => [`X-API-Key: ${it}`]) },
    { weight: 3, arbitrary: token.map((it) => [`Authorization: Bearer ${it}`]) },
    { weight: 1, arbitrary: visible(40).map((it) => [`Authorization: ${it}`]) },
    {
      weight: 4,
      arbitrary: fc
        .tuple(cookie, fc.constantFrom('1', '1', '0', ''), origin)
        .map(([it, csrf, from]) => [`Cookie: ${it}`, `X-CSRF: ${csrf}`, `Origin: ${from}`]),
    },
    { weight: 1, arbitrary: visible(40).map((it) => [`Cookie: __Host-session=${it}; __Host-sign-in=${it}`]) },
  )
  return fc.oneof(
    { weight: 8, arbitrary: one },
    { weight: 1, arbitrary: fc.array(one, { maxLength: 3 }).map((several) => several.flat()) },
  )
}

/** Headers that the gateway reads, and any others. */
const header = fc.oneof(
  headerLine('Access-Control-Request-Method', fc.oneof(fc.constantFrom('DELETE', 'GET'), visible(8))),
  headerLine('Prefer', fc.oneof(fc.constantFrom('wait=0', 'wait=-1', 'wait="1', 'wait=1e3, wait=2'), visible(20))),
  headerLine('Accept-Language', fc.oneof(fc.constantFrom('zh', 'zh-TW;q=0.1, en;q=2', '*;q=0'), visible(30))),
  headerLine(
    'X-Forwarded-For',
    fc.array(fc.constantFrom(...ADDRESSES), { maxLength: 4 }).map((it) => it.join(',')),
  ),
  headerLine('X-Forwarded-For', visible(40)),
  headerLine('If-None-Match', fc.oneof(fc.constantFrom('*', 'W/"a"'), visible(20))),
  headerLine('X-Request-Id', visible(40)),
  headerLine('User-Agent', visible(300)),
  headerLine('traceparent', visible(60)),
  headerLine('Range', visible(20)),
  headerLine('Content-Type', visible(40)),
  fc.tuple(safe(20), visible(200)).map(([name, value]) => `X-${name}: ${value}`),
)

const body = fc.oneof(
  { weight: 6, arbitrary: fc.constant('') },
  { weight: 1, arbitrary: fc.json() },
  { weight: 1, arbitrary: fc.nat({ max: 20_000 }).map((length) => 'x'.repeat(length)) },
)

/** A syntactically valid request with arbitrary content, whose connection closes after it. */
export const wellFormedRequest = (ingredients: RequestParts): fc.Arbitrary<FuzzRequest> =>
  fc
    .record({
      method,
      path: pathOf(ingredients),
      query,
      credentials: credentialsOf(ingredients),
      headers: fc.array(header, { maxLength: 3 }),
      body,
    })
    .map(({ method, path, query, credentials, headers, body }) => {
      const target = path + query
      const start = [`${method} ${target} HTTP/1.1`, 'Host: 127.0.0.1', 'Connection: close']
      const lines = [...start, ...credentials, ...headers]
      const length = body === '' ? [] : [`Content-Length: ${Buffer.byteLength(body)}`]
      const bytes = [...lines, ...length, '', Buffer.from(body).toString('latin1')].join('\r\n')
      return { method, target, bytes }
    })

const pieces = ({ apiKeys }: RequestParts): readonly string[] => [
  ...[
    '\r\n',
    '\r\n\r\n',
    '\r',
    '\n',
    '\0',
    ' ',
    '\t',
    ':',
    ';',
    '%00',
    '%2f',
    '/../',
    '#',
    '\xc3',
    'HTTP/1.0',
    'HTTP/2.0',
  ],
  ...['Transfer-Encoding: chunked\r\n', 'Transfer-Encoding: gzip, chunked\r\n', 'Transfer-Encoding: x\r\n'],
  ...['Content-Length: 5\r\n', 'Content-Length: -1\r\n', 'Content-Length: 99999999999999999999\r\n'],
  ...['Expect: 100-continue\r\n', 'Expect: x\r\n', 'Connection: upgrade\r\nUpgrade: websocket\r\n', 'Host: b\r\n'],
  ...['5\r\nhello\r\n0\r\n\r\n', '0\r\n\r\n', 'ffffffffffffffff\r\n', '1;a=b\r\n', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'],
  `DELETE /tasks/behind HTTP/1.1\r\nHost: a\r\nX-API-Key: ${apiKeys[0]}\r\n\r\n`,
  'x'.repeat(20_000),
]

type Change = (bytes: string) => string

/** A relative position in the bytes, from 0 to 1. */
const place = fc.double({ min: 0, max: 1, noNaN: true })

const insert =
  (where: number, what: string): Change =>
  (bytes) => {
    const at = Math.floor(where * bytes.length)
    return bytes.slice(0, at) + what + bytes.slice(at)
  }

const changeWith = (ingredients: RequestParts): fc.Arbitrary<Change> =>
  fc.oneof(
    fc.tuple(place, fc.constantFrom(...pieces(ingredients))).map(([where, piece]) => insert(where, piece)),
    fc
      .tuple(place, fc.uint8Array({ minLength: 1, maxLength: 8 }))
      .map(([where, some]) => insert(where, Buffer.from(some).toString('latin1'))),
    fc.tuple(place, fc.nat({ max: 255 })).map(
      ([where, byte]): Change =>
        (bytes) => {
          const at = Math.floor(where * bytes.length)
          return bytes.slice(0, at) + String.fromCharCode(byte) + bytes.slice(at + 1)
        },
    ),
    fc.tuple(place, fc.nat({ max: 60 })).map(
      ([where, length]): Change =>
        (bytes) => {
          const at = Math.floor(where * bytes.length)
          return bytes.slice(0, at) + bytes.slice(at + length)
        },
    ),
    fc.tuple(place, place, place).map(
      ([from, to, where]): Change =>
        (bytes) =>
          insert(where, bytes.slice(Math.floor(from * bytes.length), Math.floor(to * bytes.length)))(bytes),
    ),
  )

/**
 * Mutated bytes of one or more pipelined requests, or arbitrary bytes. HEAD is excluded: the length in its response
 * does not tell where the response ends.
 */
export const malformedBytes = (ingredients: RequestParts): fc.Arbitrary<string> =>
  fc.oneof(
    {
      weight: 12,
      arbitrary: fc
        .tuple(
          fc.array(
            wellFormedRequest(ingredients).filter(({ method }) => method !== 'HEAD'),
            { minLength: 1, maxLength: 3 },
          ),
          fc.array(changeWith(ingredients), { minLength: 1, maxLength: 4 }),
        )
        .map(([requests, changes]) =>
          changes.reduce(
            (bytes, change) => change(bytes),
            requests.map(({ bytes }) => bytes.replace('Connection: close\r\n', '')).join(''),
          ),
        ),
    },
    {
      weight: 1,
      arbitrary: fc.uint8Array({ maxLength: 300 }).map((some) => Buffer.from(some).toString('latin1')),
    },
  )
