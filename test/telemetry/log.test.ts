import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { GatewayError } from '../../src/errors.ts'
import { Secret } from '../../src/secret.ts'
import { createLog, describeError, type Log, type LogFields } from '../../src/telemetry/log.ts'

/** Repeated on purpose: a new field of the log is added here too, after a check of the values that it may show. */
const LISTED: readonly string[] = [
  ...[
    'action',
    'address',
    'adminAddress',
    'attempt',
    'caller',
    'cancellationId',
    'clientIp',
    'clockSkewMs',
    'code',
    'correlationId',
    'droppedLines',
  ],
  ...['durationMs', 'errorCode', 'errorName', 'instanceId', 'method', 'outcome', 'reason', 'recovered', 'requestId'],
  ...[
    'route',
    'setting',
    'signal',
    'stack',
    'status',
    'taskNo',
    'traceId',
    'upstreamCode',
    'upstreamRequestId',
    'variable',
    'via',
    'waitMs',
  ],
]

/** The lines that a log wrote. */
const linesOf = (use: (log: Log) => void, level = 'info'): Readonly<Record<string, unknown>>[] => {
  const written: string[] = []
  use(createLog({ level, destination: { write: (line) => void written.push(line) } }))
  return written.map((line) => JSON.parse(line))
}

/** As the log's types would never let it pass. */
const smuggle = (fields: unknown): LogFields => JSON.parse(JSON.stringify(fields))

test('a line tells when, how grave and what, and nothing about the machine', () => {
  const [line] = linesOf((log) => log.warn('something happened', { taskNo: 't-1', attempt: 2, recovered: 0 }))
  const { time, ...rest } = line ?? {}
  assert.equal(new Date(String(time)).toISOString(), time)
  assert.deepEqual(rest, { level: 'warn', taskNo: 't-1', attempt: 2, recovered: 0, msg: 'something happened' })
})

test('fields that are not listed are dropped', () => {
  const fields = smuggle({ taskNo: 't-1', apiKey: 'canary', headers: { cookie: 'canary' }, err: 'canary' })
  const [line] = linesOf((log) => log.error('x', fields))
  assert.deepEqual(Object.keys(line ?? {}).sort(), ['level', 'msg', 'taskNo', 'time'])
})

for (const value of [{ a: 'canary' }, ['canary'], [[]], null]) {
  test(`a listed field that holds ${JSON.stringify(value)} is dropped`, () => {
    const [line] = linesOf((log) => log.info('x', smuggle({ reason: value, code: 'kept' })))
    assert.deepEqual([line?.code, Object.hasOwn(line ?? {}, 'reason')], ['kept', false])
  })
}

test('a secret is dropped, and so is what knows how to turn itself into text', () => {
  const fields = { taskNo: 't-1', ...Object.fromEntries([['reason', new Secret('canary')]]) }
  const [line] = linesOf((log) => log.info('x', fields))
  assert.deepEqual([line?.taskNo, line?.reason], ['t-1', undefined])
})

test('every listed field is written, whichever plain type it has', () => {
  const fields = Object.fromEntries(LISTED.map((name, index) => [name, ['text', 7, true][index % 3]]))
  const [{ level, time, msg, ...rest } = {}] = linesOf((log) => log.info('x', smuggle(fields)))
  assert.deepEqual([rest, level, typeof time, msg], [fields, 'info', 'string', 'x'])
})

test('whatever is passed, only listed fields of plain types are written', () => {
  const names = fc.oneof(fc.string(), fc.constantFrom(...LISTED, 'password', 'authorization', 'x-api-key', 'err'))
  const property = fc.property(fc.dictionary(names, fc.jsonValue()), (fields) => {
    const [{ level, time, msg, ...rest } = {}] = linesOf((log) => log.info('x', smuggle(fields)))
    const plain = Object.entries(fields).filter(([name, value]) => LISTED.includes(name) && typeof value !== 'object')
    assert.deepEqual(
      [rest, level, typeof time, msg],
      [JSON.parse(JSON.stringify(Object.fromEntries(plain))), 'info', 'string', 'x'],
    )
  })
  fc.assert(property, { numRuns: 300 })
})

test('no text can begin a line of its own', () => {
  const property = fc.property(fc.string({ unit: 'binary' }), (text) => {
    const written: string[] = []
    createLog({ level: 'info', destination: { write: (line) => void written.push(line) } }).info(text, {
      reason: `${text}\n{"level":"x"}`,
    })
    assert.equal(written.join('').trimEnd().split('\n').length, 1)
  })
  fc.assert(property)
})

test('a percent sign in a message is a percent sign', () => {
  assert.equal(linesOf((log) => log.info('100%s %j %o'))[0]?.msg, '100%s %j %o')
})

for (const [level, expected] of [
  ['debug', ['info', 'warn', 'error']],
  ['info', ['info', 'warn', 'error']],
  ['warn', ['warn', 'error']],
  ['error', ['error']],
  ['fatal', []],
  ['silent', []],
] as const) {
  test(`at the level ${level} the log writes ${expected.join(', ') || 'nothing'}`, () => {
    const speak = (log: Log): void => {
      log.info('x')
      log.warn('x')
      log.error('x')
    }
    const written = linesOf(speak, level).map((line) => line.level)
    assert.deepEqual(written, expected)
  })
}

test('an error is described by its kind, its code and where it arose', () => {
  const error = Object.assign(new TypeError('canary'), { code: 'ERR_X' })
  const { errorName, errorCode, stack } = describeError(error)
  assert.deepEqual([errorName, errorCode], ['TypeError', 'ERR_X'])
  assert.match(String(stack), /^ {4}at .*log\.test\.ts:\d+/)
})

test('the message of an error is not shown, nor what caused it, nor what else it carries', () => {
  const property = fc.property(fc.string(), (noise) => {
    const cause = new Error(`canary ${noise}`)
    const error = Object.assign(new Error(`canary ${noise}\ncanary`, { cause }), { config: { key: 'canary' } })
    assert.doesNotMatch(JSON.stringify(describeError(error)), /canary/)
  })
  fc.assert(property)
})

test('a line of a message that looks like a frame is not shown', () => {
  assert.doesNotMatch(JSON.stringify(describeError(new Error('x\n    at canary'))), /canary/)
})

test('an error of ours is described by the same three', () => {
  const { errorName, errorCode } = describeError(new GatewayError('internal', { upstreamCode: 'canary' }))
  assert.deepEqual([errorName, errorCode], ['GatewayError', 'internal'])
})

for (const thrown of ['canary', 7, null, undefined, { message: 'canary' }]) {
  test(`of a thrown ${typeof thrown} (${JSON.stringify(thrown)}) only the type is told`, () => {
    assert.deepEqual(describeError(thrown), { errorName: typeof thrown })
  })
}

test('an error without a stack, or with a code that is no text, is described all the same', () => {
  const error = Object.assign(new Error('canary'), { code: 7, stack: undefined })
  assert.deepEqual(describeError(error), { errorName: 'Error', errorCode: null, stack: null })
})

for (const [address, network] of [
  ['203.0.113.77', '203.0.113.0'],
  ['2001:db8:1:2:3:4:5:6', '2001:db8:1::'],
  ['2001:db8::1', '2001:db8:0::'],
  ['fe80::1', 'fe80:0:0::'],
  ['::1', '0:0:0::'],
] as const) {
  test(`where addresses are truncated, of ${address} only ${network} is told`, () => {
    const lines: string[] = []
    const log = createLog({
      level: 'info',
      destination: { write: (line) => void lines.push(line) },
      addresses: 'truncated',
    })
    log.info('request', { clientIp: address, address: 'http://127.0.0.1:1', requestId: address })
    const { clientIp, requestId } = JSON.parse(lines[0] ?? '')
    assert.deepEqual([clientIp, requestId], [network, address])
  })
}

test('a line that could not be written is counted', () => {
  const log = createLog({
    level: 'info',
    destination: {
      write: () => {
        throw new Error('no space')
      },
    },
  })
  log.info('x')
  log.error('y')
  assert.equal(log.dropped(), 2)
})
