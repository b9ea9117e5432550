import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { dirname, join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { inspect } from 'node:util'
import { FAULT_NAMES, type FaultReply } from '../sandbox/src/faults.ts'
import { sha256 } from '../src/callers/api-keys.ts'
import { type Env, parseConfig } from '../src/config.ts'
import { createSecret } from '../src/settings/secret-strength.ts'
import { SETTINGS, type Setting } from '../src/settings.ts'
import { startCollector } from './helpers/collector.ts'
import { startWatchedGateway } from './helpers/consistency.ts'
import { startCredentialServer } from './helpers/credential-server.ts'
import { CREDENTIAL_SOURCES } from './helpers/credential-sources.ts'
import { baseEnv, CANARIES, eventually, type Started, startGateway, temporaryFolder } from './helpers/gateway.ts'
import { createIssuerKey, sign, startIssuer } from './helpers/issuer.ts'
import { closedPort, listenOn } from './helpers/ports.ts'
import { prepare, startProcess } from './helpers/process.ts'
import { sendBytes } from './helpers/raw-http.ts'
import { SESSION_SECRET, SIGN_IN_ENV } from './helpers/session.ts'
import {
  type PausedProxy,
  startInterceptingProxy,
  startPausedProxy,
  startRewritingProxy,
} from './helpers/upstream-proxy.ts'

// Everything that can go wrong goes wrong here. Then everything that left the gateway is searched for secrets.

const { securityToken, operatorKey, readerKey, auditorKey } = CANARIES

const ATTEMPTS = 2
const STS: Env = { ALIBABA_CLOUD_SECURITY_TOKEN: securityToken, UPSTREAM_MAX_ATTEMPTS: String(ATTEMPTS) }

const ECHO = `Specified signature is not matched. server string to sign is:POST&%2F&AccessKeyId%3D${CANARIES.accessKeyId}`

const coded = (status: number, code: string): FaultReply => ({ status, code, message: ECHO })

const FAULTS: readonly FaultReply[] = [
  // A call without a response has a test of its own, since it takes longer.
  ...FAULT_NAMES.filter((name) => name !== 'stall'),
  coded(400, 'SignatureDoesNotMatch'),
  coded(400, 'IncompleteSignature'),
  coded(400, `server string to sign is:POST&${CANARIES.accessKeyId}`),
  coded(403, 'InvalidSecurityToken.Expired'),
  coded(400, 'SignatureNonceUsed'),
  coded(403, 'Forbidden.RAM'),
  coded(400, 'MissingTaskNo'),
  coded(400, 'TaskNotExist'),
  coded(400, 'NeverHeardOf'),
  coded(404, 'NoSuchVersion'),
  coded(500, 'InternalError'),
  coded(200, 'NeverHeardOf'),
]

const request = (start: string, ...lines: readonly string[]): string =>
  [`${start} HTTP/1.1`, 'Host: a', 'Connection: close', ...lines, '', ''].join('\r\n')

const cancel = (taskNo: string, key: string = operatorKey): string =>
  request(`DELETE /tasks/${taskNo}`, `X-API-Key: ${key}`)

const read = (path: string): string => request(`GET ${path}`, `X-API-Key: ${readerKey}`)

/** Reads, and the action that each asks upstream for. */
const readsOf = (taskNo: string) =>
  [
    ['QueryTaskList', '/tasks'],
    ['QueryTaskDetailList', `/tasks/${taskNo}/details`],
  ] as const

/** Requests that are refused, each with a secret where it does not belong. */
const REFUSED: readonly string[] = [
  cancel('x', readerKey),
  cancel('x', `${operatorKey}x`),
  request('DELETE /tasks/x', `X-API-Key: ${operatorKey}`, `X-API-Key: ${operatorKey}`),
  request('DELETE /tasks/x', `Authorization: Bearer ${operatorKey}`),
  request('DELETE /tasks/x', `Cookie: __Host-session=${operatorKey}`),
  request(`DELETE /tasks/x.${operatorKey}`),
  request(`DELETE /tasks/x?lang=${operatorKey}`, `X-API-Key: ${operatorKey}`),
  request(`PUT /tasks/x?key=${operatorKey}`),
  request(`GET /nowhere/${operatorKey}`),
  request(`GET /cancellations?taskNo=${operatorKey}&limit=${operatorKey}`, `X-API-Key: ${auditorKey}`),
  request(`GET /cancellations/${operatorKey}`, `X-API-Key: ${operatorKey}`),
  request(`GET /tasks?page=${readerKey}&pageSize=${readerKey}`, `X-API-Key: ${readerKey}`),
  request(`GET /tasks?createdFrom=${readerKey}`, `X-API-Key: ${readerKey}`),
  request(`GET /tasks/${readerKey}`, `X-API-Key: ${readerKey}`),
  request(`GET /tasks/x/details?domain=${readerKey}`, `X-API-Key: ${readerKey}`),
  request(`GET /tasks/x/details?status=${readerKey}`, `X-API-Key: ${readerKey}`),
  request('GET /tasks/x', `X-API-Key: ${readerKey}`, `If-None-Match: "${readerKey}"`, `Prefer: wait=${readerKey}`),
  request('GET /livez', `Expect: ${operatorKey}`),
  request('GET /livez', `X-Request-Id: ${operatorKey} ${operatorKey}`),
  `BREW /${operatorKey} HTCPCP/1.0\r\nX-API-Key: ${operatorKey}\r\n\r\n`,
  `GET /${operatorKey} HTTP/1.1\r\nHost: a\r\nX-API-Key: ${operatorKey.padEnd(20_000, 'x')}\r\n\r\n`,
  `GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 9000\r\n\r\n${operatorKey.padEnd(9000, 'x')}`,
]

/** Everything that left: answers, log lines, and the bytes of the record, with side files while they are there. */
interface Haul {
  readonly answers: readonly string[]
  readonly log: string
  readonly record: string
  readonly metrics?: string
  readonly traces?: string
}

const drive = async (started: Started): Promise<Haul> => {
  const { url, adminUrl, upstream, logLines, auditPath, stop } = started
  const answers: string[] = []
  const ask = async (bytes: string): Promise<void> => void answers.push(await sendBytes(url, bytes))
  await ask(cancel(upstream.addTask()))
  for (const reply of FAULTS) {
    for (const effect of [false, true]) {
      upstream.fault('CancelTask', { reply, effect })
      await ask(cancel(upstream.addTask()))
      upstream.clearFaults()
    }
  }
  const taskNo = upstream.addTask()
  for (const reply of FAULTS) {
    for (const [action, path] of readsOf(taskNo)) {
      upstream.fault(action, { reply }, ATTEMPTS)
      await ask(read(path))
      upstream.clearFaults()
    }
  }
  for (const [, path] of readsOf(taskNo)) await ask(read(path))
  await ask(read(`/tasks/${taskNo}`))
  for (const bytes of REFUSED) await ask(bytes)
  await ask(request('GET /cancellations?limit=200', `X-API-Key: ${auditorKey}`))
  await ask(request('GET /me', `X-API-Key: ${operatorKey}`))
  const open = await readAll(auditPath)
  const metrics = await (await fetch(`${adminUrl}/metrics`)).text()
  assert.match(metrics, /gateway_requests_total\{/)
  await stop()
  return { answers, log: logLines.join(''), record: open + (await readAll(auditPath)), metrics }
}

const readAll = async (path: string): Promise<string> => {
  const folder = dirname(path)
  const names = await readdir(folder)
  const files = await Promise.all(names.map((name) => readFile(join(folder, name), 'latin1')))
  return files.join('')
}

const spellings = (secret: string): readonly string[] => [
  secret,
  encodeURIComponent(secret),
  Buffer.from(secret).toString('base64').replace(/=+$/, ''),
  Buffer.from(secret).toString('hex'),
]

/** Signed requests as they went over the wire: signatures and nonces of every attempt. */
const signedParts = (proxy: PausedProxy, { upstream }: Started): readonly string[] => {
  const signatures = [...proxy.received.matchAll(/Signature=([A-Za-z0-9%+/=]{20,})/g)].map(([, value = '']) => value)
  const nonces = upstream.calls.map(({ nonce }) => nonce)
  return [...signatures, ...signatures.map(decodeURIComponent), ...nonces]
}

const API_KEY_HASHES = [operatorKey, readerKey, auditorKey].map((key) => sha256(key).toString('hex'))

const PATTERNS = [
  /Signature=/i,
  /string to sign/i,
  /AccessKeyId=/i,
  /x-acs-/i,
  // got's own words.
  /Timeout awaiting|RequestError|ReadError|TimeoutError|HTTPError|Response code|node_modules\/got/,
  /(read|connect) E[A-Z]{3,}/,
] as const

const leaksIn = (text: string, needles: readonly string[]): readonly string[] => [
  ...needles.filter((needle) => text.includes(needle)),
  ...PATTERNS.flatMap((pattern) => pattern.exec(text)?.[0] ?? []),
]

const assertClean = (haul: Haul, needles: readonly string[]): void => {
  const { answers, log, record, metrics = '', traces = '' } = haul
  const found = [...answers, log, record, metrics, traces].map((text) => leaksIn(text, needles))
  assert.deepEqual(found.flat(), [])
}

const SECRETS = [...Object.values(CANARIES).flatMap(spellings), ...API_KEY_HASHES]

/** A gateway whose bytes to the upstream are seen, and whose traces are collected. */
const startSeen = async (t: TestContext, env: Env) => {
  const collector = await startCollector(t)
  let proxy: PausedProxy | undefined
  const started = await startWatchedGateway(t, {
    env: { ...STS, OTEL_EXPORTER_OTLP_ENDPOINT: collector.url, ...env },
    sandbox: { securityToken },
    proxy: async (_t, upstream) => {
      proxy = await startPausedProxy(t, upstream.url)
      proxy.resume()
      return `http://127.0.0.1:${proxy.port}`
    },
  })
  assert.ok(proxy)
  const tracesSeen = (): string => {
    assert.ok(collector.bodies.length > 0)
    return collector.bodies.join('')
  }
  return { started, proxy, tracesSeen }
}

for (const signature of ['rpc-v1', 'acs3'] as const) {
  test(`whatever goes wrong, nothing secret leaves, signed by ${signature}`, async (t) => {
    const { started, proxy, tracesSeen } = await startSeen(t, { UPSTREAM_SIGNATURE: signature })
    const haul = { ...(await drive(started)), traces: tracesSeen() }
    const parts = signedParts(proxy, started)
    assert.ok(parts.length >= 3 * started.upstream.calls.length - 5 && proxy.received.includes(securityToken))
    assertClean(haul, [...SECRETS, ...parts])
  })

  test(`a real mismatch of signatures tells nobody what was signed by ${signature}`, async (t) => {
    const wrong = 'canary-of-a-wrong-secret'
    const { started, proxy, tracesSeen } = await startSeen(t, {
      UPSTREAM_SIGNATURE: signature,
      ALIBABA_CLOUD_ACCESS_KEY_SECRET: wrong,
    })
    const haul = { ...(await drive(started)), traces: tracesSeen() }
    assert.equal(started.upstream.calls[0]?.code, 'SignatureDoesNotMatch')
    assertClean(haul, [...SECRETS, ...spellings(wrong), ...signedParts(proxy, started)])
  })

  test(`an upstream that never answers learns more than the caller does, signed by ${signature}`, async (t) => {
    const { started, proxy } = await startSeen(t, { UPSTREAM_SIGNATURE: signature, UPSTREAM_TIMEOUT_MS: '2000' })
    started.upstream.fault('CancelTask', { reply: 'stall' })
    const answers = [await sendBytes(started.url, cancel('x'))]
    assert.match(answers[0] ?? '', /outcome-unknown/)
    const haul = { answers, log: started.logLines.join(''), record: await readAll(started.auditPath) }
    assertClean(haul, [...SECRETS, ...signedParts(proxy, started)])
  })
}

const TOKEN_WITH_SIGNS = 'canary/token+with=signs'

const escaped = (text: string): string =>
  [...text].map((character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`).join('')

/** Spellings of a text in JSON, and the text that takes their place. */
const JSON_SPELLINGS: Readonly<Record<string, (text: string) => string>> = {
  'as it is': (text) => text,
  'with its first character escaped': (text) => escaped(text.charAt(0)) + text.slice(1),
  'with every character escaped': escaped,
  'with escapes in upper case': (text) =>
    escaped(text)
      .replace(/[a-f]/g, (digit) => digit.toUpperCase())
      .replaceAll('\\U', '\\u'),
  'with escaped slashes': (text) => text.replaceAll('/', '\\/'),
  'percent-encoded': encodeURIComponent,
  'percent-encoded twice': (text) => encodeURIComponent(encodeURIComponent(text)),
}

/** Every field of an answer whose text can leave the gateway. */
const ECHOING_FIELDS =
  /"(TaskType|TaskTypeDescription|Clientip|TaskStatus|TaskCancelStatus|CreateTime|TaskDetailNo|DomainName|InstanceId|ErrorMsg|TaskResult|UpdateTime)":"[^"]*"/g

for (const [name, spell] of Object.entries(JSON_SPELLINGS)) {
  test(`keys that the upstream gives back ${name} are cut out of every field`, async (t) => {
    const keys = [CANARIES.accessKeyId, CANARIES.accessKeySecret, TOKEN_WITH_SIGNS]
    const said = spell(keys.join(' '))
    const rewritten = (text: string): string =>
      text.replace(ECHOING_FIELDS, `"$1":"${said}"`).replace(/"TaskNo":"[^"]*"/g, `"TaskNo":"${said}"`)
    const rewrite = (text: string): string =>
      text.includes('"Code"') ? text.replace(/"(Code|RequestId)":"[^"]*"/g, `"$1":"${said}"`) : rewritten(text)
    const started = await startWatchedGateway(t, {
      env: { ALIBABA_CLOUD_SECURITY_TOKEN: TOKEN_WITH_SIGNS },
      sandbox: { securityToken: TOKEN_WITH_SIGNS },
      proxy: (t, upstream) => startRewritingProxy(t, upstream.url, rewrite),
    })
    const { url, upstream, logLines, auditPath } = started
    const taskNo = upstream.addTask()
    const answers: string[] = []
    for (const path of ['/tasks', `/tasks/${taskNo}/details`]) answers.push(await sendBytes(url, read(path)))
    for (const answer of answers) assert.match(answer, /\[secret\]/)
    answers.push(await sendBytes(url, cancel('unknown')))
    const haul = { answers, log: logLines.join(''), record: await readAll(auditPath) }
    const encodedTwice = encodeURIComponent(encodeURIComponent(TOKEN_WITH_SIGNS))
    assertClean(haul, [...keys.flatMap(spellings), encodedTwice])
  })
}

test('keys that the upstream gives back in XML are cut out', async (t) => {
  const said = `<Error><RequestId>${CANARIES.accessKeyId}</RequestId><Code>${CANARIES.accessKeySecret}</Code></Error>`
  const answer = { status: 400, body: said }
  const started = await startWatchedGateway(t, {
    proxy: (t, { url }) => startInterceptingProxy(t, url, { forwarded: 0, response: answer }),
  })
  const answers = [await sendBytes(started.url, cancel('x'))]
  assert.match(answers[0] ?? '', /task-not-cancellable/)
  const haul = { answers, log: started.logLines.join(''), record: await readAll(started.auditPath) }
  assertClean(haul, SECRETS)
})

const NEW_KEYS = {
  accessKeyId: 'LTAI-canary-new-id',
  accessKeySecret: 'canary-new-secret',
  securityToken: 'canary-new-token',
} as const

for (const [where, choose] of CREDENTIAL_SOURCES) {
  test(`neither keys in ${where} nor those that take their place leave, whatever goes wrong`, async (t) => {
    const { env, put } = await choose(t, CANARIES)
    const readFile = (path: string) => readFileSync(path, 'utf8')
    const settings = { ...env, UPSTREAM_MAX_ATTEMPTS: String(ATTEMPTS) }
    const started = await startWatchedGateway(t, { env: settings, readFile, sandbox: { securityToken } })
    const { url, upstream } = started
    const echo = Object.values({ ...NEW_KEYS, old: CANARIES.accessKeyId }).join('.')
    const ask = async () => sendBytes(url, cancel(upstream.addTask()))
    upstream.addKeys(NEW_KEYS)
    upstream.revokeKeys(CANARIES.accessKeyId)
    const answers = [await ask()]
    await put(NEW_KEYS)
    await eventually(async () => ((await ask()).startsWith('HTTP/1.1 202') ? true : undefined))
    for (const code of ['InvalidAccessKeyId.NotFound', 'InvalidSecurityToken', NEW_KEYS.accessKeyId, 'NeverHeardOf']) {
      upstream.fault('CancelTask', { reply: { status: 400, code, message: echo } }, ATTEMPTS)
      answers.push(await ask())
      upstream.clearFaults()
    }
    const haul = await drive(started)
    assert.match(answers[0] ?? '', /upstream-credentials-rejected/)
    assert.match(haul.log, /new credentials are in use/)
    const needles = [...SECRETS, ...Object.values(NEW_KEYS).flatMap(spellings)]
    assertClean({ ...haul, answers: [...answers, ...haul.answers] }, needles)
  })
}

for (const reply of ['error', 'garbage', 'incomplete'] as const) {
  test(`a chain that answers with ${reply} has none of its keys leave`, async (t) => {
    const server = await startCredentialServer(t, await temporaryFolder(t), NEW_KEYS)
    server.answerWith(reply)
    const { sandbox, auditPath, env } = await prepare(t)
    const { url, kill, ended, line } = await startProcess(t, { ...env, ...server.env })
    await line('the provider chain returned no credentials; known ones are used until they expire')
    const answers = [await sendBytes(url, cancel(sandbox.addTask())), await sendBytes(url, request('GET /readyz'))]
    kill('SIGTERM')
    const { stdout, stderr } = await ended
    assert.match(answers[0] ?? '', /upstream-credentials-rejected/)
    const haul = { answers, log: stdout + stderr, record: await readAll(auditPath) }
    assertClean(haul, [...SECRETS, ...Object.values(NEW_KEYS).flatMap(spellings)])
  })
}

/** Parts of a token that must not be seen. Its header is no secret, and the name in it is meant to be. */
const partsOf = (token: string): readonly string[] =>
  [token, ...token.split('.').slice(1)].filter((part) => part !== '')

const CLAIM = 'canary-of-a-claim'

test('whatever is done with tokens, none leaves', async (t) => {
  const issuer = await startIssuer(t)
  const sound = await issuer.token({ private: CLAIM })
  const tokens = [
    sound,
    `${sound}x`,
    await issuer.token({ private: CLAIM, aud: CLAIM }),
    await issuer.token({ private: CLAIM, iss: CLAIM }),
    await issuer.token({ private: CLAIM, exp: CLAIM }),
    await issuer.token({ private: CLAIM, sub: `${CLAIM}\n` }),
    await issuer.token({ private: CLAIM, scope: CLAIM }),
    await sign(await createIssuerKey(), issuer.claims({ private: CLAIM })),
    await sign(issuer.key, issuer.claims({ private: CLAIM }), { kid: CLAIM }),
  ]
  const overrides = { timings: { keySet: { cooldownMs: 0 } } }
  const started = await startGateway(t, { env: issuer.env, overrides })
  const { url, upstream, logLines, auditPath, stop } = started
  const answers: string[] = []
  const ask = async (bytes: string): Promise<void> => void answers.push(await sendBytes(url, bytes))
  for (const reply of ['keys', 'not-json', 'error', 'down'] as const) {
    issuer.answerWith(reply)
    for (const token of tokens) {
      const line = `Authorization: Bearer ${token}`
      await ask(request(`DELETE /tasks/${upstream.addTask()}`, line))
      await ask(request('GET /tasks', line))
      await ask(request('GET /me', line, line))
      await ask(request('GET /me', line, `X-API-Key: ${token}`))
      await ask(request(`GET /nowhere/${token}?access_token=${token}`, line, `Cookie: token=${token}`))
      await ask(request('GET /livez', `X-Request-Id: ${token}`, `Prefer: wait=${token}`))
    }
  }
  await ask(request('GET /cancellations?limit=200', `X-API-Key: ${auditorKey}`))
  await stop()
  for (const seen of [
    /202 Accepted/,
    /unauthenticated/,
    /credentials-ambiguous/,
    /identity-provider-unavailable/,
    /"jwt"/,
  ]) {
    assert.match(answers.join(''), seen)
  }
  const haul = { answers, log: logLines.join(''), record: await readAll(auditPath) }
  assert.match(haul.log, /a token was refused/)
  assertClean(haul, [CLAIM, ...tokens.flatMap(partsOf)])
})

/** Everything that a bug could have at hand. */
const ALL = 'JSON.stringify(process.env)'

/** Code that runs inside the gateway and ends it, and the output of that. */
const ENDS: Readonly<Record<string, readonly [code: string, says: RegExp]>> = {
  'an error that carries every setting': [
    `process.once('SIGUSR2', () => {
      throw Object.assign(new Error(${ALL}, { cause: new Error(${ALL}) }), { name: ${ALL}, options: process.env })
    })`,
    /an internal error ends the process/,
  ],
  'a text that is every setting': [
    `process.once('SIGUSR2', () => void Promise.reject(${ALL}))`,
    /an internal error ends the process/,
  ],
  'the end of a thread of the record': [
    `import threads from 'node:worker_threads'
    import { syncBuiltinESMExports } from 'node:module'
    threads.Worker = class extends threads.Worker {
      constructor(...given) {
        super(...given)
        process.once('SIGUSR2', () => this.terminate())
      }
    }
    syncBuiltinESMExports()`,
    /an internal error ends the process/,
  ],
  'the end of its memory': [
    `process.once('SIGUSR2', () => {
      for (const all = [${ALL}]; ; ) all.push(new Array(1e6).fill(all[0] + all.length))
    })`,
    /heap out of memory/,
  ],
}

for (const [what, [code, says]] of Object.entries(ENDS)) {
  test(`a process that is ended by ${what} takes its secrets along`, async (t) => {
    const { sandbox, auditPath, env } = await prepare(t)
    const issuer = await startIssuer(t)
    const token = await issuer.token()
    const preload = join(await temporaryFolder(t), 'end.mjs')
    await writeFile(preload, code)
    const started = await startProcess(
      t,
      { ...env, ...issuer.env, ...SIGN_IN_ENV },
      { execArgv: ['--max-old-space-size=150', '--import', preload] },
    )
    await sendBytes(started.url, cancel(sandbox.addTask()))
    await sendBytes(started.url, request('GET /me', `Authorization: Bearer ${token}`))
    sandbox.fault('CancelTask', { reply: 'stall' })
    const unanswered = sendBytes(started.url, cancel(sandbox.addTask()))
    await sandbox.nextCall('CancelTask')

    started.kill('SIGUSR2')
    const { stdout, stderr } = await started.ended

    assert.match(stdout + stderr, says)
    const haul = { answers: [await unanswered], log: stdout + stderr, record: await readAll(auditPath) }
    const secrets = [SESSION_SECRET, String(SIGN_IN_ENV.OIDC_CLIENT_SECRET), ...partsOf(token)]
    assertClean(haul, [...SECRETS, ...secrets])
  })
}

const UNREACHABLE: readonly (readonly [string, (t: TestContext) => Promise<string>])[] = [
  ['refuses', async () => `http://127.0.0.1:${await closedPort()}`],
  ['has no name', async () => `https://${'a'.repeat(64)}.invalid`],
  [
    'breaks the handshake off',
    async (t) =>
      `https://127.0.0.1:${await listenOn(
        t,
        createServer((s) => s.destroy()),
      )}`,
  ],
]

for (const [what, proxy] of UNREACHABLE) {
  test(`an upstream that ${what} makes nothing secret leave`, async (t) => {
    const started = await startWatchedGateway(t, { env: STS, proxy })
    const answers = [await sendBytes(started.url, cancel('x'))]
    assert.match(answers[0] ?? '', /upstream-unavailable/)
    const haul = { answers, log: started.logLines.join(''), record: await readAll(started.auditPath) }
    assertClean(haul, SECRETS)
  })
}

test('the search finds what it is made for', () => {
  const texts = ['Signature=x', 'server string to sign is', `x ${operatorKey} y`, 'connect ECONNREFUSED', 'clean']
  assert.deepEqual(
    texts.map((text) => leaksIn(text, SECRETS).length > 0),
    [true, true, true, true, false],
  )
})

test('settings show nothing secret, however they are looked at', () => {
  const config = parseConfig({ ...baseEnv('http://127.0.0.1:1', 'audit.db'), ...STS }, () => '')
  const views = [
    inspect(config, { depth: Number.POSITIVE_INFINITY, showHidden: true }),
    JSON.stringify(config),
    String(Object.values(config.credentials ?? {})),
    `${config.credentials?.accessKeyId}${config.credentials?.accessKeySecret}${config.credentials?.securityToken}`,
  ]
  for (const view of views)
    assert.deepEqual(
      Object.values(CANARIES)
        .flatMap(spellings)
        .filter((s) => view.includes(s)),
      [],
    )
  assert.equal(config.credentials?.securityToken?.reveal(), securityToken)
})

const POSTGRES_URL = 'postgres://gateway:<password>@db.example.com/record'

test('no setting with a secret shows it, however the settings are looked at', () => {
  const canary = `canary-${createSecret()}`
  const secrets = Object.entries<Setting>(SETTINGS).flatMap(([name, { secret, example = POSTGRES_URL }]) => {
    if (secret !== 'text' && secret !== 'url') return []
    return [[name, secret === 'text' ? canary : example.replace('<password>', canary)]]
  })
  const config = parseConfig(
    { ...baseEnv('http://127.0.0.1:1', ''), ...SIGN_IN_ENV, ...Object.fromEntries(secrets) },
    () => '',
  )

  const views = [inspect(config, { depth: Number.POSITIVE_INFINITY, showHidden: true }), JSON.stringify(config)]

  assert.ok(secrets.length > 5 && config.audit.kind === 'postgres')
  for (const view of views) assert.doesNotMatch(view, new RegExp(canary))
})
