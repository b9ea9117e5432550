import assert from 'node:assert/strict'
import { brotliCompressSync, deflateRawSync, deflateSync, gzipSync } from 'node:zlib'
import { parseBoundedJson } from '../../../src/alibaba/bounded-json.ts'
import { decodeBody } from '../../../src/alibaba/content-encoding.ts'
import { contradictedBy, ENDINGS, readResult } from '../../../src/alibaba/response.ts'
import { percentEncode } from '../../../src/alibaba/signing.ts'
import { createTaskParsers, type Task, type TaskDetail } from '../../../src/alibaba/task-schemas.ts'
import { noonOfUpstreamDay, parseUpstreamTime } from '../../../src/alibaba/upstream-time.ts'
import { readXmlFailure } from '../../../src/alibaba/xml-failure.ts'
import { isoTime } from '../../../src/time.ts'
import { parsedOrUndefined } from '../parsed.ts'

// Parsers of what the upstream sends.

const MAX_VALUES = 50_000
const MAX_DEPTH = 100

/** Values and levels of a value of JSON. */
const sizeOf = (value: unknown): { readonly count: number; readonly depth: number } => {
  if (typeof value !== 'object' || value === null) return { count: 1, depth: 0 }
  let [count, depth] = [1, 0]
  for (const each of Object.values(value)) {
    const inner = sizeOf(each)
    count += inner.count
    depth = Math.max(depth, inner.depth)
  }
  return { count, depth: depth + 1 }
}

const LONG_WHOLE_NUMBER = /^-?\d{16,}$/

/** As the gateway must read it: each long whole number that JavaScript cannot represent is its text. */
const exactOrUndefined = (text: string): unknown => {
  try {
    return JSON.parse(text, (_name, value: unknown, context?: { readonly source?: string }) => {
      const source = context?.source ?? ''
      return LONG_WHOLE_NUMBER.test(source) && !Number.isSafeInteger(value) ? source : value
    })
  } catch {
    return undefined
  }
}

/** The same value. Other numbers may be text, too. */
const assertSame = (read: unknown, parsed: unknown): void => {
  if (typeof parsed === 'number' && typeof read === 'string') {
    assert.ok(Object.is(Number(read), parsed))
    assert.ok(!Number.isSafeInteger(parsed))
  } else if (typeof parsed !== 'object' || parsed === null) assert.ok(Object.is(read, parsed))
  else {
    assert.ok(typeof read === 'object' && read !== null)
    assert.equal(Array.isArray(read), Array.isArray(parsed))
    const members = new Map(Object.entries(parsed))
    const own = Object.entries(read)
    assert.deepEqual(
      own.map(([name]) => name),
      [...members.keys()],
    )
    for (const [name, value] of own) assertSame(value, members.get(name))
    assert.ok([Object.prototype, Array.prototype].includes(Object.getPrototypeOf(read)))
  }
}

/** JSON: the same as `JSON.parse` reads, unless it is too large or too deep. */
export const json = (data: Buffer): void => {
  const text = data.toString('utf8')
  const read = parseBoundedJson(text)
  const parsed = exactOrUndefined(text)
  if (read !== undefined) assertSame(read, parsed)
  else if (parsed !== undefined) {
    const { count, depth } = sizeOf(parsed)
    // Each value has one separator or bracket at most before it.
    assert.ok(count > MAX_VALUES / 2 || depth > MAX_DEPTH, `${count} values, ${depth} levels`)
  }
  const spaced = parseBoundedJson(` \n${text}\t`)
  assert.deepEqual(spaced, read)
  const edited = parseBoundedJson(text, (value) => `${value}!`)
  if (typeof parsedOrUndefined(text) === 'string') assert.equal(edited, `${read}!`)
  assert.equal({}.constructor, Object)
}

const CREDENTIALS = { accessKeyId: 'LTAIfuzz', accessKeySecret: 'the/secret+of=fuzz', securityToken: 'a token?' }
const SECRETS = [CREDENTIALS.accessKeyId, CREDENTIALS.accessKeySecret, CREDENTIALS.securityToken]
const SPELLINGS = SECRETS.flatMap((secret) => [secret, percentEncode(secret), percentEncode(percentEncode(secret))])
const STATUSES = [200, 202, 302, 400, 403, 404, 429, 500, 503] as const
const SUCCESS_CODES: readonly unknown[] = ['200', 'OK', 'Success', 'success', 200]
const ATTEMPT = { isFullLength: true, backoffMs: 100 }

const plain = (name: string): string => name.toLowerCase().replaceAll('_', '')

/** A code that is none of success, at the top or in `data`. */
const hasFailingCode = (value: unknown, levels: number): boolean => {
  if (levels === 0 || typeof value !== 'object' || value === null) return false
  if (Array.isArray(value)) return value.some((each) => hasFailingCode(each, levels - 1))
  return Object.entries(value).some(([name, member]) => {
    if (member === null) return false
    if (plain(name) === 'code') return !SUCCESS_CODES.includes(member)
    return plain(name) === 'data' && hasFailingCode(member, levels - 1)
  })
}

/** Two bytes for the status and the time to wait, then a body. Never success against what the body says. */
export const responses = (data: Buffer): void => {
  const [status = 0, wait = 0] = data
  const read = (body: string) =>
    readResult(
      {
        kind: 'response',
        response: {
          status: STATUSES[status % STATUSES.length] ?? 200,
          retryAfterMs: wait % 2 === 0 ? null : wait * 100,
          body,
        },
        date: null,
      },
      CREDENTIALS,
      ATTEMPT,
    )
  const body = data.subarray(2).toString('utf8')
  const result = read(body)
  const printed = JSON.stringify(result)
  for (const spelling of SPELLINGS) assert.ok(!printed.includes(spelling), spelling)
  for (const other of [`\ufeff${body.replace(/^\ufeff/, '')}`, body.replace(/^\ufeff/, '')]) {
    assert.equal(JSON.stringify(read(other)), printed)
  }
  assert.equal(JSON.stringify(read(`${body}\n`)), printed)
  if (result.ok) {
    assert.ok((result.httpStatus ?? 0) < 300)
    assert.match(result.requestId, /^[A-Za-z0-9-]{1,64}$/)
    assert.ok(!hasFailingCode(parsedOrUndefined(body.replace(/^\ufeff/, '')), 3))
    assert.equal(result.health.kind, 'ok')
    return
  }
  assert.ok(Object.hasOwn(ENDINGS, result.failure))
  assert.ok(result.upstreamCode === null || /^[A-Za-z][A-Za-z0-9._-]{0,99}$/.test(result.upstreamCode))
  assert.ok(result.requestId === null || /^[A-Za-z0-9-]{1,64}$/.test(result.requestId))
  assert.ok(ENDINGS[result.failure].retry !== 'backoff', 'a response was read, so something was sent')
  assert.ok([null, 'task-codes', 'envelope-failure'].includes(contradictedBy(result)))
}

/** A failure in XML. Comments and white space around the document change nothing. */
export const failures = (data: Buffer): void => {
  const text = data.toString('utf8')
  const failure = readXmlFailure(text)
  assert.deepEqual(readXmlFailure(`<!-- <Code>a</Code> --> ${text}\n`), failure)
  if (failure === null) return
  for (const value of [failure.Code, failure.RequestId]) {
    assert.ok(value === null || /^[\w.-]{1,100}$/.test(value))
    if (value !== null && !text.includes('<!')) assert.ok(text.includes(value))
  }
  const { Code, RequestId } = failure
  if (Code === null || RequestId === null) return
  const printed = `<?xml version='1.0'?><Error><RequestId>${RequestId}</RequestId><Code>${Code}</Code></Error>`
  assert.deepEqual(readXmlFailure(printed), failure)
}

const BODY_MAX = 20_000
const ENCODERS = new Map([
  ['gzip', gzipSync],
  ['x-gzip', gzipSync],
  ['deflate', deflateSync],
  ['br', brotliCompressSync],
])

/** The first line is the header, the rest a body: a decoded body is never longer than permitted. */
export const encodings = async (data: Buffer): Promise<void> => {
  const end = data.indexOf('\n')
  const header = data.subarray(0, end < 0 ? data.length : end).toString('latin1')
  const body = end < 0 ? Buffer.alloc(0) : data.subarray(end + 1)
  const decoded = await decodeBody(body, header, BODY_MAX)
  if (decoded === null) assert.ok(header !== '')
  else assert.ok(decoded.length <= BODY_MAX || decoded.equals(body))

  const names = header.split(',').map((name) => name.trim().toLowerCase())
  const encoders = names.map((name) => ENCODERS.get(name))
  if (names.length > 3 || body.length > BODY_MAX / 2 || encoders.includes(undefined)) return
  const encoded = encoders.reduce((bytes, encode) => encode?.(bytes) ?? bytes, body)
  assert.deepEqual(await decodeBody(encoded, header, BODY_MAX), body)
  if (names.join() !== 'deflate' || body.length === 0) return
  // The first byte of a raw stream can be the one of a zlib stream: such a stream is ambiguous.
  const raw = deflateRawSync(body)
  if (((raw[0] ?? 0) & 0x0f) !== 8) assert.deepEqual(await decodeBody(raw, header, BODY_MAX), body)
}

const checkName = (value: string | null): void => assert.ok(value === null || (value !== '' && value.length <= 256))
const checkText = (value: string | null): void => assert.ok(value === null || (value !== '' && value.length <= 4000))
const checkCount = (value: number | null): void =>
  assert.ok(value === null || (Number.isSafeInteger(value) && value >= 0))
const checkMoment = (value: number | null): void => assert.ok(value === null || isoTime(value) !== null)

const checkTask = (task: Task): void => {
  assert.ok(task.taskNo !== '' && task.taskNo.length <= 256)
  for (const value of [task.type, task.clientIp]) checkName(value)
  checkText(task.typeDescription)
  checkCount(task.domainCount)
  checkMoment(task.createdAtMs)
  assert.ok(['waiting', 'executing', 'complete', 'unknown'].includes(task.status))
  assert.ok(['none', 'cancelling', 'cancelled', 'unknown'].includes(task.cancelStatus))
}

const checkDetail = (detail: TaskDetail): void => {
  assert.ok(detail.taskNo !== '' && detail.taskNo.length <= 256)
  for (const value of [detail.detailNo, detail.type, detail.domain, detail.instanceId]) checkName(value)
  for (const value of [detail.typeDescription, detail.message, detail.result]) checkText(value)
  for (const value of [detail.createdAtMs, detail.updatedAtMs]) checkMoment(value)
  checkCount(detail.attempts)
  assert.ok(['waiting', 'executing', 'succeeded', 'failed', 'unknown'].includes(detail.status))
}

/** Pages of tasks and details: each field has its documented type and size. */
export const pages = (data: Buffer): void => {
  const body = parseBoundedJson(data.toString('utf8'))
  const { readTasks, readDetails } = createTaskParsers((field, value) => {
    assert.match(field, /^\w+( of a detail)?$/)
    assert.ok(value.length <= 256)
  })
  const requested = { page: 1, pageSize: 20 }
  const [ofTasks, ofDetails] = [readTasks(body, requested), readDetails(body, requested)]
  for (const task of ofTasks?.items ?? []) checkTask(task)
  for (const detail of ofDetails?.items ?? []) checkDetail(detail)
  for (const page of [ofTasks, ofDetails]) {
    if (page === null) continue
    assert.ok(page.items.length <= 1000)
    for (const count of [page.totalItems, page.totalPages]) checkCount(count)
    assert.ok(page.page >= 1 && page.pageSize >= 1)
    assert.equal(page.hasNext, page.page < page.totalPages)
  }
}

/** Times in each form of the upstream. `Date` reads the same moment. */
export const times = (data: Buffer): void => {
  const text = data.toString('utf8')
  const at = parseUpstreamTime(text)
  const wall = /^(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)$/.exec(text)
  if (wall !== null) {
    const [, date, time] = wall
    const local = new Date(`${date}T${time}Z`)
    const isReal = !Number.isNaN(local.getTime()) && local.toISOString() === `${date}T${time}.000Z`
    assert.equal(at, isReal ? local.getTime() - 8 * 3_600_000 : null)
  }
  if (at === null) return
  const iso = isoTime(at) ?? ''
  assert.ok(/^\d{12,14}$/.test(text) || Math.abs(at) < 2.6e14, text)
  // Years of more than four digits have another form.
  if (iso.length === 24) assert.equal(parseUpstreamTime(iso), at)
  const zoned = /^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:\d\d)$/.test(text)
  if (zoned) assert.equal(Date.parse(text), at)
  const noon = noonOfUpstreamDay(at)
  assert.ok(Math.abs(noon - at) <= 43_200_000)
  assert.equal(noonOfUpstreamDay(noon), noon)
}
