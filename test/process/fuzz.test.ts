import assert from 'node:assert/strict'
import { text } from 'node:stream/consumers'
import { after, type TestContext, test } from 'node:test'
import fc from 'fast-check'
import type { Sandbox } from '../../sandbox/src/server.ts'
import { PROBLEMS } from '../../src/http/presentation/problems.ts'
import { findViolations } from '../helpers/contract.ts'
import { malformedBytes, type RequestParts, wellFormedRequest } from '../helpers/fuzz-requests.ts'
import { CANARIES, cancelCalls } from '../helpers/gateway.ts'
import { startIssuer } from '../helpers/issuer.ts'
import { prepare, type RunningGateway, startProcess } from '../helpers/process.ts'
import { openSocket, parseAnswer, parseAnswers, type RawAnswer } from '../helpers/raw-http.ts'
import { writeFigures } from '../helpers/reliability-doc.ts'
import { SIGN_IN_ENV, sessionCookie } from '../helpers/session.ts'
import { createVitalsReader, heapOf, mebibytes, VITALS_ARGS } from '../helpers/vitals.ts'

// On demand with more requests and another seed: npm run fuzz.

const REQUESTS = Number(process.env.REQUESTS ?? 2000)
const SEED = Number(process.env.SEED ?? 7)
const AT_ONCE = 8
const SALVOS = 25
const MOST_SHOWN = 20
const MOST_TEXT = 600
/** Memory that is freed only after a while is allocated before the first measurement. */
const WARM_UP = 0.25
const MOST_GROWTH = 4 * 2 ** 20

/** The part before the path of a request target in absolute form. */
const ABSOLUTE = /^http:\/\/[^/]*/

const ORIGIN = 'https://shop.example.com'

/** One of so many salvos finds upstream in trouble. */
const FAULT_EVERY = 20
const UPSTREAM_FAULTS = [
  { reply: 'reset', effect: true },
  { reply: 'truncate', effect: true },
  { reply: 'not-json' },
  { reply: 'huge' },
  { reply: 'redirect' },
  { reply: 'no-request-id', effect: true },
  { reply: { status: 500, code: 'InternalError' } },
  { reply: { status: 400, code: 'TaskNotExist' } },
  { reply: { status: 403, code: 'Forbidden.RAM' } },
  { reply: { status: 418, code: 'NeverHeardOf' } },
] as const

const figures: Record<string, string | number>[] = []
after(() => writeFigures('fuzz', figures))

interface Target {
  readonly gateway: RunningGateway
  readonly sandbox: Sandbox
  readonly ingredients: RequestParts
  /** Those of the ingredients that allow a cancel. */
  readonly allowing: readonly string[]
}

/** A gateway with all features enabled that parses unauthenticated input. */
const start = async (t: TestContext): Promise<Target> => {
  const { sandbox, env } = await prepare(t)
  const issuer = await startIssuer(t)
  const token = await issuer.token()
  const { cookie } = await sessionCookie({ scopes: ['tasks:cancel', 'tasks:read'] }, issuer.url)
  const gateway = await startProcess(
    t,
    {
      ...env,
      ...issuer.env,
      ...SIGN_IN_ENV,
      OIDC_ISSUER: issuer.url,
      CORS_ORIGINS: ORIGIN,
      TRUST_PROXY: '127.0.0.1',
      DOCS_ENABLED: 'true',
      CONSOLE_ENABLED: 'true',
      // Addresses that were counted are forgotten soon.
      RATE_LIMIT_WINDOW_MS: '1000',
      UPSTREAM_TIMEOUT_MS: '1000',
      REQUEST_TIMEOUT_MS: '5000',
    },
    { execArgv: VITALS_ARGS },
  )
  const { operatorKey, readerKey, auditorKey } = CANARIES
  return {
    gateway,
    sandbox,
    ingredients: {
      taskNos: Array.from({ length: 30 }, () => sandbox.addTask()),
      apiKeys: [operatorKey, readerKey, auditorKey, `${operatorKey}x`, operatorKey.toUpperCase()],
      tokens: [token, token.slice(0, -4), 'a.b.c', `${token} ${token}`],
      cookies: [cookie, `${cookie.slice(0, -3)}AAA`, '__Host-session=', '__Host-sign-in=x; __Host-session=a.b'],
      origins: [ORIGIN, 'https://gateway.example.com'],
    },
    allowing: [operatorKey, auditorKey, token, cookie],
  }
}

/** The client closes the connection after this time; after the short one if the bytes have no recognizable end. */
const PATIENT_MS = 20_000
const IMPATIENT_MS = 50

/** Everything that comes back until either side hangs up. */
const exchange = (url: string, bytes: string, patienceMs: number): Promise<string> => {
  const socket = openSocket(url)
  socket.write(bytes, 'latin1')
  if (patienceMs === 0) socket.end()
  else socket.setTimeout(patienceMs, () => socket.end())
  return text(socket).catch(() => '')
}

/** The violations of the contract in the response to any request. */
const faultsOf = ({ status, body }: RawAnswer): readonly string[] => {
  if (status < 400) return []
  const problem = Object(JSON.parse(body))
  const known = Object.entries(PROBLEMS).find(([code]) => code === problem.code)?.[1]
  const isSound = known?.status === status && problem.status === status && problem.code !== 'internal'
  return isSound ? [] : [`${status} ${body} is not in the contract`]
}

/** Every task number that the sender of these bytes could have meant. */
const numbersIn = (bytes: string): readonly string[] =>
  bytes.replace(/%([0-9a-f]{2})/gi, (_, hex) => String.fromCharCode(Number.parseInt(hex, 16))).match(/[\w-]+/g) ?? []

interface Shot {
  readonly bytes: string
  readonly patienceMs: number
  /** The faults of the bytes that were received. */
  faults(answer: string): readonly string[]
}

const fire = async ({ url }: RunningGateway, { bytes, patienceMs, faults }: Shot): Promise<readonly string[]> => {
  const answer = await exchange(url, bytes, patienceMs)
  return faults(answer).map((fault) => `${fault}, after ${JSON.stringify(bytes).slice(0, MOST_TEXT)}`)
}

/** Fires this many shots, a few at a time, and compares their results with the allowed ones. */
const bombard = async (t: TestContext, kind: string, target: Target, shot: fc.Arbitrary<Shot>): Promise<void> => {
  const { gateway, sandbox, allowing } = target
  const salvo = fc.record({
    shots: fc.array(shot, { minLength: AT_ONCE, maxLength: AT_ONCE }),
    fault: fc.option(fc.constantFrom(...UPSTREAM_FAULTS), { freq: FAULT_EVERY }),
  })
  const allowed = new Set<string>()
  const found: string[] = []
  let sent = 0

  /** The seed and the number of shots so far determine the next shots. */
  const fireUntil = async (end: number): Promise<void> => {
    while (sent < end) {
      for (const { shots, fault } of fc.sample(salvo, { seed: SEED + sent, numRuns: SALVOS })) {
        if (fault !== null) sandbox.fault('CancelTask', fault)
        for (const { bytes } of shots) {
          const allows = allowing.some((credential) => bytes.includes(credential))
          if (allows) for (const taskNo of numbersIn(bytes)) allowed.add(taskNo)
        }
        const faults = await Promise.all(shots.map((one) => fire(gateway, one)))
        found.push(...faults.flat())
        sent += shots.length
      }
      if (sent % 10_000 === 0) t.diagnostic(`${sent} of ${REQUESTS}, ${found.length} answered wrongly`)
    }
  }

  const vitals = createVitalsReader(gateway)
  await fireUntil(REQUESTS * WARM_UP)
  const early = await vitals()
  await fireUntil(REQUESTS)
  const late = await vitals()

  const cancelled = cancelCalls(sandbox).map(({ params }) => String(params.TaskNo))
  gateway.kill('SIGTERM')
  const { code, stdout, stderr } = await gateway.ended
  const row = {
    Requests: kind,
    Sent: sent,
    'Wrong responses': found.length,
    'CancelTask calls': cancelled.length,
    'Heap after a quarter, at the end (MiB)': `${mebibytes(heapOf(early))}, ${mebibytes(heapOf(late))}`,
    'Process (MiB)': `${mebibytes(early.rss)}, ${mebibytes(late.rss)}`,
  }
  t.diagnostic(`seed ${SEED}: ${JSON.stringify(row)}`)
  figures.push(row)
  assert.deepEqual(found.slice(0, MOST_SHOWN), [])
  assert.ok(cancelled.length > 0)
  assert.deepEqual(
    cancelled.filter((taskNo) => !allowed.has(taskNo)),
    [],
  )
  assert.equal(sandbox.violations, 0)
  assert.deepEqual(
    Object.values(CANARIES).filter((secret) => stdout.includes(secret)),
    [],
  )
  assert.deepEqual([code, stderr], [0, ''])
  assert.ok(heapOf(late) < heapOf(early) + MOST_GROWTH, 'memory grows')
}

test('every request gets a documented response', async (t) => {
  const target = await start(t)
  const shot = wellFormedRequest(target.ingredients).map(({ method, target: path, bytes }): Shot => {
    const faults = (answer: string): readonly string[] => {
      const { status, headers, body } = parseAnswer(answer)
      // Documented, but nothing to be found.
      if (status === PROBLEMS.internal.status) return ['internal error']
      // Input that cannot be parsed as a request has no method, and its response has a body.
      const read = method === 'HEAD' && body !== '' ? '' : method
      return findViolations({ method: read, path: path.replace(ABSOLUTE, ''), status, headers, text: body })
    }
    return { bytes, patienceMs: PATIENT_MS, faults }
  })
  await bombard(t, 'well formed', target, shot)
})

test('arbitrary bytes break nothing and cause no cancellation', async (t) => {
  const target = await start(t)
  const shot = fc.tuple(malformedBytes(target.ingredients), fc.constantFrom(0, IMPATIENT_MS)).map(
    ([bytes, patienceMs]): Shot => ({
      bytes,
      patienceMs,
      faults: (answer) => parseAnswers(answer).flatMap(faultsOf),
    }),
  )
  await bombard(t, 'malformed', target, shot)
})
