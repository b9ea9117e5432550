import assert from 'node:assert/strict'
import { isIP } from 'node:net'
import { type TestContext, test } from 'node:test'
import fc from 'fast-check'
import { parseSubnets } from '../../src/addresses.ts'
import { clientAddress, networkOf, normalizeAddress } from '../../src/http/middleware/client-ip.ts'
import { createLog } from '../../src/telemetry/log.ts'
import { asOperator, type StartOptions, startGateway } from '../helpers/gateway.ts'

const ADDRESSES: readonly (readonly [string, string | null])[] = [
  ['192.0.2.1', '192.0.2.1'],
  ['  192.0.2.1\t', '192.0.2.1'],
  ['192.0.2.1:0', '192.0.2.1'],
  ['192.0.2.1:65535', '192.0.2.1'],
  ['::ffff:192.0.2.1', '192.0.2.1'],
  ['::FFFF:192.0.2.1', '192.0.2.1'],
  ['::ffff:c000:201', '192.0.2.1'],
  ['0:0:0:0:0:ffff:c000:0201', '192.0.2.1'],
  ['0000:0000:0000:0000:0000:FFFF:192.0.2.1', '192.0.2.1'],
  ['[::ffff:192.0.2.1]:443', '192.0.2.1'],
  ['::ffff:192.0.2.1%eth0', '192.0.2.1'],
  ['::1', '::1'],
  ['[::1]', '::1'],
  ['[::1]:3000', '::1'],
  ['0:0:0:0:0:0:0:1', '::1'],
  ['fe80::1%eth0', 'fe80::1'],
  ['fe80::1%25en0', 'fe80::1'],
  ['[fe80::1%wlan-0.1_2~]:80', 'fe80::1'],
  ['2001:DB8::0001', '2001:db8::1'],
  ['2001:db8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
  ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
  ['64:ff9b::192.0.2.1', '64:ff9b::c000:201'],
  // Neither mapped nor an address of IPv4: these stay unchanged.
  ['::ffff:0:192.0.2.1', '::ffff:0:c000:201'],
  ['1::ffff:192.0.2.1', '1::ffff:c000:201'],
  // Only space and tab are cut: proxies pass other bytes on as a part of the value.
  ['\u00a0192.0.2.1', null],
  ['192.0.2.1\u00a0', null],
  ['\ufeff192.0.2.1', null],
  ['\u2028192.0.2.1', null],
  ['\v192.0.2.1\f', null],
  ['', null],
  ['unknown', null],
  ['_hidden', null],
  ['localhost', null],
  ['for=192.0.2.1', null],
  ['"192.0.2.1"', null],
  ['192.0.2.1:', null],
  ['192.0.2.1:123456', null],
  ['192.0.2.1:80:80', null],
  ['192.0.2.1:-1', null],
  ['192.0.2', null],
  ['192.0.2.256', null],
  ['192.0.2.01', null],
  ['0xc0.0.2.1', null],
  ['3221225985', null],
  ['192.0.2.1/32', null],
  ['192.0.2.1 192.0.2.2', null],
  ['192.0.2.1;drop', null],
  ['[192.0.2.1', null],
  ['::1]', null],
  ['[[::1]]', null],
  ['[::1]x', null],
  ['[::1]:', null],
  ['[]', null],
  ['::ffff:192.0.2.1:80', null],
  [':::', null],
  ['1:2:3:4:5:6:7:8:9', null],
  ['12345::', null],
  ['fe80::1%eth 0', null],
  ['１92.0.2.1', null],
  ['192.0.2.1\0', null],
  ['1'.repeat(100_000), null],
  ['::'.repeat(50_000), null],
]

for (const [text, expected] of ADDRESSES) {
  test(`${JSON.stringify(text.slice(0, 40))} is ${expected ?? 'no address'}`, () =>
    assert.equal(normalizeAddress(text), expected))
}

const groups = fc.array(fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 0xffff })), { minLength: 8, maxLength: 8 })
const v4 = fc.ipV4()
const v6 = groups.map((words) => words.map((word) => word.toString(16)).join(':'))
const address = fc.oneof(v4, v6)

/** The same address in another dress: case, leading zeros, a run of zeros left out, the last 32 bits in dotted form. */
const spelling = fc.record({ upper: fc.boolean(), width: fc.integer({ min: 1, max: 4 }), dotted: fc.boolean() })
type Spelling = typeof spelling extends fc.Arbitrary<infer T> ? T : never

const spell = (words: readonly number[], { upper, width, dotted }: Spelling): string => {
  const hex = words.map((word) => word.toString(16).padStart(width, '0'))
  const [high = 0, low = 0] = words.slice(6)
  const tail = [high >> 8, high & 255, low >> 8, low & 255].join('.')
  const text = (dotted ? [...hex.slice(0, 6), tail] : hex).join(':')
  const short = text.replace(/(^|:)0+(:0+)+:(?=.)/, '::')
  return upper ? short.toUpperCase() : short
}

test('an IPv6 address has one form, however it is spelled', () => {
  const property = fc.property(groups, spelling, spelling, (words, one, other) => {
    const canonical = normalizeAddress(spell(words, one))
    assert.notEqual(canonical, null)
    assert.equal(normalizeAddress(spell(words, other)), canonical)
  })
  fc.assert(property, { numRuns: 500 })
})

test('the form of an IPv6 address is that of RFC 5952, as the URL standard has it', () => {
  const real = groups.filter((words) => words.slice(0, 6).some((word) => word !== 0 && word !== 0xffff))
  const property = fc.property(real, spelling, (words, how) => {
    assert.equal(`[${normalizeAddress(spell(words, how))}]`, new URL(`http://[${spell(words, how)}]`).hostname)
  })
  fc.assert(property, { numRuns: 500 })
})

test('an IPv4 address is itself, with a port, in brackets and mapped', () => {
  const property = fc.property(v4, fc.integer({ min: 0, max: 65_535 }), (ip, port) => {
    for (const text of [ip, `${ip}:${port}`, `::ffff:${ip}`, `[::FFFF:${ip}]:${port}`]) {
      assert.equal(normalizeAddress(text), ip)
    }
  })
  fc.assert(property)
})

const nearAddress = fc.oneof(
  fc.string({ unit: fc.constantFrom(...'0123456789abcdefF.:[]%/, x') }),
  fc.tuple(fc.string({ maxLength: 3 }), address, fc.string({ maxLength: 6 })).map((parts) => parts.join('')),
  fc.string({ unit: 'binary' }),
  fc.ipV6(),
)

test('nothing that is no address ever comes out, and what comes out is in its final form', () => {
  const property = fc.property(nearAddress, (text) => {
    const out = normalizeAddress(text)
    if (out === null) return
    assert.ok(isIP(out) > 0 && /^[0-9a-f.:]+$/.test(out), out)
    assert.equal(normalizeAddress(out), out)
  })
  fc.assert(property, { numRuns: 2000 })
})

const TRUSTED = parseSubnets('10.0.0.0/8, fd00::/8') ?? assert.fail()
const clientOf = (peer: string | undefined, ...lines: readonly string[]) => clientAddress(peer, lines, TRUSTED).clientIp

const HOPS: readonly (readonly [string, string | undefined, readonly string[], string | null])[] = [
  ['no header', '192.0.2.1', [], '192.0.2.1'],
  ['a header from a stranger', '192.0.2.1', ['6.6.6.6'], '192.0.2.1'],
  ['a header that names a proxy, from a stranger', '192.0.2.1', ['6.6.6.6, 10.0.0.1'], '192.0.2.1'],
  ['no header from a proxy', '10.0.0.1', [], '10.0.0.1'],
  ['one hop', '10.0.0.1', ['192.0.2.1'], '192.0.2.1'],
  ['one hop in front of two proxies', '10.0.0.1', ['192.0.2.1, 10.0.0.2'], '192.0.2.1'],
  ['a forged hop further left', '10.0.0.1', ['6.6.6.6, 192.0.2.1'], '192.0.2.1'],
  ['forged proxies further left', '10.0.0.1', ['6.6.6.6, 10.0.0.9, 192.0.2.1, 10.0.0.2'], '192.0.2.1'],
  ['proxies only', '10.0.0.1', ['10.0.0.3, 10.0.0.2'], '10.0.0.3'],
  ['garbage nearest', '10.0.0.1', ['6.6.6.6, garbage'], '10.0.0.1'],
  ['garbage behind a proxy', '10.0.0.1', ['6.6.6.6, garbage, 10.0.0.2'], '10.0.0.2'],
  ['garbage left of the client', '10.0.0.1', ['garbage, 192.0.2.1'], '192.0.2.1'],
  ['an empty header', '10.0.0.1', [''], '10.0.0.1'],
  ['an empty hop nearest', '10.0.0.1', ['192.0.2.1,'], '10.0.0.1'],
  ['an empty hop between', '10.0.0.1', ['192.0.2.1,,10.0.0.2'], '10.0.0.2'],
  ['several lines', '10.0.0.1', ['6.6.6.6', '192.0.2.1', '10.0.0.3, 10.0.0.2'], '192.0.2.1'],
  ['an empty last line', '10.0.0.1', ['192.0.2.1', ''], '10.0.0.1'],
  ['blanks and tabs', '10.0.0.1', ['\t192.0.2.1 ,\t10.0.0.2 '], '192.0.2.1'],
  ['no blanks', '10.0.0.1', ['192.0.2.1,10.0.0.2'], '192.0.2.1'],
  ['a client with a port', '10.0.0.1', ['192.0.2.1:51234'], '192.0.2.1'],
  ['a proxy with a port', '10.0.0.1', ['192.0.2.1, 10.0.0.2:8080'], '192.0.2.1'],
  ['a proxy that is mapped', '10.0.0.1', ['192.0.2.1, ::ffff:10.0.0.2'], '192.0.2.1'],
  ['a proxy that is mapped in hex', '10.0.0.1', ['192.0.2.1, [::ffff:a00:2]:80'], '192.0.2.1'],
  ['a peer that is mapped', '::ffff:10.0.0.1', ['192.0.2.1'], '192.0.2.1'],
  ['a peer with a zone', 'fd00::1%eth0', ['192.0.2.1'], '192.0.2.1'],
  ['a proxy of IPv6 in brackets', 'fd00::1', ['2001:DB8::1, [fd00::2]:80'], '2001:db8::1'],
  ['the address of nobody', '10.0.0.1', ['unknown'], '10.0.0.1'],
  ['no peer', undefined, ['192.0.2.1'], null],
  ['a peer that is no address', 'x', ['192.0.2.1'], null],
]

for (const [name, peer, lines, expected] of HOPS) {
  test(`${name}: the client is ${expected ?? 'unknown'}`, () => assert.equal(clientOf(peer, ...lines), expected))
}

test('the peer is told as it is, whoever the client is', () => {
  assert.deepEqual(clientAddress('::ffff:10.0.0.1', ['192.0.2.1'], TRUSTED), {
    clientIp: '192.0.2.1',
    peerIp: '10.0.0.1',
  })
})

const isForeign = (ip: string): boolean => !TRUSTED.has(ip)
const foreign = address.map((ip) => normalizeAddress(ip) ?? '192.0.2.1').filter(isForeign)
const proxy = fc.oneof(
  fc.constantFrom('10.0.0.2', '10.9.8.7:80', '::ffff:10.0.0.2', ' fd00::2', '[FD00:0::3]:443', 'fd00::4%eth0'),
  fc.integer({ min: 0, max: 255 }).map((low) => `10.1.2.${low}`),
)
const forged = fc.array(fc.oneof(nearAddress, proxy, foreign), { maxLength: 5 })

test('a forged left part never matters', () => {
  const property = fc.property(forged, foreign, fc.array(proxy), fc.nat(), (left, client, proxies, cut) => {
    const hops = [...left, client, ...proxies]
    const at = cut % (hops.length + 1)
    assert.equal(clientOf('10.0.0.1', hops.join(', ')), client)
    const lines = [hops.slice(0, at).join(), hops.slice(at).join()].filter((line) => line !== '')
    assert.equal(clientOf('10.0.0.1', ...lines), client)
  })
  fc.assert(property, { numRuns: 500 })
})

test('whoever is no proxy of ours is the client, whatever they say', () => {
  fc.assert(fc.property(foreign, forged, (peer, left) => assert.equal(clientOf(peer, left.join()), peer)))
})

test('whatever stands in the header, the client has an address', () => {
  const property = fc.property(fc.array(fc.oneof(nearAddress, fc.string()), { maxLength: 6 }), (lines) => {
    assert.ok(isIP(clientOf('10.0.0.1', ...lines) ?? '') > 0)
  })
  fc.assert(property, { numRuns: 500 })
})

test('a very long header is read from the right', () => {
  const long = `${'6.6.6.6, '.repeat(100_000)}192.0.2.1${', 10.0.0.2'.repeat(100_000)}`
  assert.equal(clientOf('10.0.0.1', long), '192.0.2.1')
  assert.equal(clientOf('10.0.0.1', ','.repeat(1_000_000)), '10.0.0.1')
})

/** The `UserClientIp` that upstream gets of a cancellation with the header. */
const sentFor = async (t: TestContext, env: StartOptions['env'] & {}, forwardedFor: string) => {
  const { api, upstream, record } = await startGateway(t, { env })
  const taskNo = upstream.addTask()
  await api.delete(`/tasks/${taskNo}`).set(asOperator).set('X-Forwarded-For', forwardedFor).expect(202)
  const [call, ...more] = upstream.calls.filter(({ action }) => action === 'CancelTask')
  assert.deepEqual(more, [])
  const { clientIp, peerIp } = await record(taskNo)
  return [call?.params.UserClientIp, clientIp, peerIp]
}

test('upstream and the record get the address that a trusted proxy names', async (t) => {
  const sent = await sentFor(t, { TRUST_PROXY: '127.0.0.1' }, '6.6.6.6, [2001:DB8::0009]:443')
  assert.deepEqual(sent, ['2001:db8::9', '2001:db8::9', '127.0.0.1'])
})

test('without TRUST_PROXY the header is ignored', async (t) => {
  assert.deepEqual(await sentFor(t, {}, '203.0.113.9'), ['127.0.0.1', '127.0.0.1', '127.0.0.1'])
})

test('with TRUST_PROXY for another address the header is ignored', async (t) => {
  const [sent] = await sentFor(t, { TRUST_PROXY: '10.0.0.0/8, ::1' }, '203.0.113.9')
  assert.equal(sent, '127.0.0.1')
})

test('what is no address is never sent upstream', async (t) => {
  const [sent] = await sentFor(t, { TRUST_PROXY: '127.0.0.1' }, '203.0.113.9, unknown')
  assert.equal(sent, '127.0.0.1')
})

test('limits count an IPv4 address alone, and the IPv6 addresses of a /56 together', () => {
  assert.notEqual(networkOf('192.0.2.1'), networkOf('192.0.2.2'))
  assert.equal(networkOf('2001:db8:1:100::1'), networkOf('2001:db8:1:1ff:ffff::2'))
  assert.notEqual(networkOf('2001:db8:1:100::1'), networkOf('2001:db8:1:200::1'))
})

/** The lines about `X-Forwarded-For` that is ignored. */
const ignoredLines = (logLines: readonly string[]) =>
  logLines.map((line) => JSON.parse(line)).filter((line) => line.setting === 'TRUST_PROXY')

for (const TRUST_PROXY of ['', '10.0.0.0/8']) {
  test(`X-Forwarded-For of a peer outside TRUST_PROXY=${TRUST_PROXY} is logged once, with the peer`, async (t) => {
    const { api, logLines } = await startGateway(t, { env: { TRUST_PROXY } })
    for (const forwardedFor of ['203.0.113.9', 'canary', '203.0.113.9']) {
      await api.get('/livez').set('X-Forwarded-For', forwardedFor)
    }
    assert.deepEqual(
      ignoredLines(logLines).map(({ level, peerIp }) => [level, peerIp]),
      [['warn', '127.0.0.1']],
    )
    assert.doesNotMatch(logLines.join(''), /canary/)
  })
}

test('of requests without X-Forwarded-For, or through a trusted proxy, no such line is logged', async (t) => {
  const { api, logLines } = await startGateway(t, { env: { TRUST_PROXY: '127.0.0.1' } })
  await api.get('/livez')
  await api.get('/livez').set('X-Forwarded-For', '203.0.113.9, 198.51.100.1')
  assert.deepEqual(ignoredLines(logLines), [])
})

test('where addresses are truncated, the peer of such a line is too', async (t) => {
  const logLines: string[] = []
  const log = createLog({
    level: 'info',
    destination: { write: (line) => void logLines.push(line) },
    addresses: 'truncated',
  })
  const { api } = await startGateway(t, { overrides: { log } })
  await api.get('/livez').set('X-Forwarded-For', '203.0.113.9')
  assert.deepEqual(
    ignoredLines(logLines).map(({ peerIp }) => peerIp),
    ['127.0.0.0'],
  )
})
