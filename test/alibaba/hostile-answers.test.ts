import assert from 'node:assert/strict'
import { test } from 'node:test'
import { readResponse } from '../../src/alibaba/response.ts'
import { createTaskParsers } from '../../src/alibaba/task-schemas.ts'
import { assertLinear, repeatedText, type TextOf } from '../helpers/growth.ts'

// The largest answers that are accepted, in every shape that could take more time than their length explains.

const MAX_BYTES = 4 * 1024 * 1024

const answers = createTaskParsers(() => undefined)
const ASKED = { page: 1, pageSize: 100 } as const

const read = (body: string, status = 200) => {
  const reading = readResponse({ status, retryAfterMs: null, body })
  if (!reading.ok) return null
  return answers.readTasks(reading.body, ASKED) ?? answers.readDetails(reading.body, ASKED)
}

const LIST = '{"RequestId":"A","TotalItemNum":1,"Data":{"TaskInfo":['
const DETAILS = '{"RequestId":"A","TotalItemNum":1,"Data":{"TaskDetail":['
const END = ']}}'

/** One row, a field of which is as long as the answer can be. */
const rowWith = (field: string, unit: string, start = LIST): TextOf =>
  repeatedText(`${start}{"TaskNo":"a","${field}":"`, unit, `"}${END}`, '')

const membersOf =
  (nameOf: (index: number) => string): TextOf =>
  (length) => {
    const count = Math.floor(length / (nameOf(999_999).length + 6))
    return `{"RequestId":"A"${Array.from({ length: count }, (_, index) => `,"${nameOf(index)}":0`).join('')}}`
  }

const nested =
  (open: string, close: string): TextOf =>
  (length) => {
    const depth = Math.floor((length - 30) / (open.length + close.length))
    return `{"RequestId":"A","Data":${open.repeat(depth)}0${close.repeat(depth)}}`
  }

const SHAPES: Readonly<Record<string, TextOf>> = {
  'a list of zeros': repeatedText(LIST, '0', END),
  'a list of empty rows': repeatedText(LIST, '{}', END),
  'a list of nulls': repeatedText(LIST, 'null', END),
  'a list of empty lists': repeatedText(LIST, '[]', END),
  'details that are zeros': repeatedText(DETAILS, '0', END),
  'details that are empty': repeatedText(DETAILS, '{}', END),
  'rows that hold nothing but a number': repeatedText(LIST, '{"TaskNo":"a"}', END),
  'details that hold nothing but a number': repeatedText(DETAILS, '{"TaskNo":"a"}', END),
  'rows with a field of another type': repeatedText(LIST, '{"TaskNo":"a","TaskType":{}}', END),
  'zeros in place of the members of an answer': repeatedText('[', '0', ']'),
  'lists in lists': nested('[', ']'),
  'objects in objects': nested('{"Data":', '}'),
  'members of as many names': membersOf((index) => `k${index}`),
  'members that are numbered': membersOf((index) => String((index * 7919) % 4_294_967_291)),
  'one member again and again': membersOf(() => 'Data'),
  'a member __proto__ again and again': membersOf(() => '__proto__'),
  'a code of digits': repeatedText('{"Code":"', '1', '"}', ''),
  'a code of codes': repeatedText('{"Code":"', 'Throttling.', '"}', ''),
  'a code that is a long number': repeatedText('{"Code":', '1', '}', ''),
  'an id without end': repeatedText('{"RequestId":"', '1', '"}', ''),
  'a total without end': repeatedText('{"RequestId":"A","TotalItemNum":"', '1', '"}', ''),
  'a type without end': rowWith('TaskType', 'x'),
  'a status without end': rowWith('TaskStatus', 'x'),
  'a time without end': rowWith('CreateTime', '2017-11-01 '),
  'a name of combining marks': rowWith('DomainName', '\u0301\u0323', DETAILS),
  'a name of escapes': rowWith('DomainName', '\\u0301\\u0323', DETAILS),
  'a message of escaped quotes': rowWith('ErrorMsg', '\\"', DETAILS),
  'a message of backslashes': rowWith('ErrorMsg', '\\\\', DETAILS),
  'a string that does not end': repeatedText('{"RequestId":"', '\\"', '', ''),
  'no JSON': repeatedText('<', 'html', '>', ' '),
  'nothing but space': repeatedText('', ' ', '', ''),
  'space after the declaration of XML': repeatedText('<?xml version="1.0"?>', ' ', '', ''),
  'XML without end': repeatedText('<Error>', '<Code>', '</Error>', ''),
  'XML with one long element': repeatedText('<Error><Code>', 'x', '</Code></Error>', ''),
  'XML with long attributes': repeatedText('<Error a="', 'x ', '"></Error>', ''),
  'objects under data': nested('{"data":', '}'),
  'lists under data': repeatedText('{"RequestId":"A","data":[', '{"Code":"X"}', ']}'),
}

for (const [shape, textOf] of Object.entries(SHAPES)) {
  test(`${shape}: an answer is read in linear time, and hardly longer than it takes to parse`, () => {
    assertLinear(textOf, MAX_BYTES, (text) => [read(text), read(text, 400)])
  })
}

const task = (index: number): string => `{"TaskNo":"t-${index}","TaskStatus":"EXECUTING"}`

const listOf = (count: number, rowOf = task): string =>
  `${LIST}${Array.from({ length: count }, (_, index) => rowOf(index)).join()}${END}`

test('a page of a thousand rows is read, and one more is more than upstream ever sends', () => {
  assert.equal(read(listOf(1000))?.items.length, 1000)
  assert.equal(read(listOf(1001)), null)
})

test('a page of a thousand rows with all that the vendor documents, in long texts, is read', () => {
  const fields = Array.from({ length: 20 }, (_, index) => `"Field${index}":"${'修改DNS, [例] {子} '.repeat(12)}"`)
  const page = listOf(1000, (index) => `{"TaskNo":"t-${index}",${fields}}`)
  assert.ok(page.length < MAX_BYTES)
  assert.equal(read(page)?.items.length, 1000)
})

for (const [name, body] of [
  ['the first', `${LIST}0,${task(1)}${END}`],
  ['the last', `${LIST}${task(1)},0${END}`],
  ['one without a number', `${LIST}${task(1)},{}${END}`],
] as const) {
  test(`a page with a faulty row, ${name}, is no page`, () => assert.equal(read(body), null))
}

test('separators in texts are no values', () => {
  const message = '\\",[{'.repeat(60_000)
  const body = `${DETAILS}{"TaskNo":"t-1","ErrorMsg":"${message}"}${END}`
  assert.equal(read(body)?.items.length, 1)
})

test('an answer of more values than any page has is no answer, however they are held', () => {
  for (const body of [
    repeatedText('{"RequestId":"A","Data":[', '0', ']}'),
    nested('[', ']'),
    membersOf((it) => `k${it}`),
  ]) {
    assert.equal(readResponse({ status: 200, retryAfterMs: null, body: body(1_000_000) }).ok, false)
  }
})

test('a member under __proto__ belongs to no object', () => {
  const body = '{"__proto__":{"RequestId":"A","Code":"Throttling"},"RequestId":"B"}'
  const reading = readResponse({ status: 200, retryAfterMs: null, body })
  assert.deepEqual([reading.ok, reading.requestId], [true, 'B'])
  assert.equal(readResponse({ status: 200, retryAfterMs: null, body: '{"__proto__":{"RequestId":"A"}}' }).ok, false)
})
