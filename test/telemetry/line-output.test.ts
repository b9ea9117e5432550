import assert from 'node:assert/strict'
import { closeSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { createLineOutput } from '../../src/telemetry/line-output.ts'
import { eventually, temporaryFolder } from '../helpers/gateway.ts'
import { mountTmpfs, requires } from '../helpers/requirements.ts'
import { createUnreadPipe } from '../helpers/unread-pipe.ts'

/** Long enough that a few fill a pipe, and odd, so that the reader's pages end in mid-line. */
const lineOf = (index: number): string => `${String(index).padStart(6, '0')} ${'x'.repeat(1000)}\n`

const MORE_THAN_WAITS = 2000

/** An output whose report of dropped lines is a line too, as that of the log is. */
const outputOn = (fd: number) => {
  const reports: number[] = []
  const output = createLineOutput({
    fd,
    onResumed: (dropped) => {
      reports.push(dropped)
      output.write(`dropped ${dropped}\n`)
    },
  })
  return { output, reports }
}

const outputToPipe = async (t: TestContext) => {
  const pipe = await createUnreadPipe(t)
  return { pipe, ...outputOn(pipe.fd) }
}

test('lines are written at once, in their order', async (t) => {
  const { pipe, output } = await outputToPipe(t)
  output.write('a\n')
  output.write('ü\n')
  assert.equal(pipe.read(), 'a\nü\n')
  assert.equal(output.dropped(), 0)
})

test('lines that find the pipe full wait, and come complete and in order once the reader goes on', async (t) => {
  const { pipe, output, reports } = await outputToPipe(t)
  const lines = Array.from({ length: 500 }, (_, index) => lineOf(index))
  for (const line of lines) output.write(line)
  let received = ''
  await eventually(() => {
    received += pipe.read()
    return received.length >= lines.join('').length || undefined
  })
  assert.equal(received, lines.join(''))
  assert.deepEqual([output.dropped(), reports], [0, []])
})

test('lines beyond what may wait are dropped and counted, and one line says so once the reader goes on', async (t) => {
  const { pipe, output, reports } = await outputToPipe(t)
  for (let index = 0; index < MORE_THAN_WAITS; index += 1) output.write(lineOf(index))
  const dropped = output.dropped()
  let received = ''
  await eventually(() => {
    received += pipe.read()
    return received.includes('dropped') || undefined
  })
  output.write('after\n')
  received += pipe.read()

  const written = received.split('\n')
  assert.ok(dropped > 0)
  assert.deepEqual(written.slice(-3), [`dropped ${dropped}`, 'after', ''])
  assert.deepEqual(
    written.slice(0, -3).map((line) => `${line}\n`),
    Array.from({ length: MORE_THAN_WAITS - dropped }, (_, index) => lineOf(index)),
  )
  assert.deepEqual([reports, output.dropped()], [[dropped], dropped])
})

test('a line to a reader that has gone is dropped and counted', async (t) => {
  const { pipe, output } = await outputToPipe(t)
  output.write('a\n')
  pipe.closeReader()
  output.write('b\n')
  output.write('c\n')
  assert.equal(output.dropped(), 2)
})

test('lines that wait are counted as dropped once the reader has gone', async (t) => {
  const { pipe, output } = await outputToPipe(t)
  pipe.fill()
  for (let index = 0; index < 10; index += 1) output.write(lineOf(index))
  pipe.closeReader()
  assert.equal(await eventually(() => output.dropped() || undefined), 10)
})

test('at the end waiting lines are written to a reader that reads, and a stopped one is left in time', async (t) => {
  const { pipe, output } = await outputToPipe(t)
  pipe.fill()
  output.write('last\n')
  output.flush(20)
  assert.equal(pipe.read().includes('last'), false)
  output.flush(5000)
  assert.equal(pipe.read(), 'last\n')
})

test('on a full disk lines are dropped and counted, and those after it stand on lines of their own', (t) => {
  if (!requires(t, 'mount')) return
  const path = join(mountTmpfs(t, 'size=64k'), 'log')
  const file = openSync(path, 'a')
  t.after(() => closeSync(file))
  const filler = `${path}-filler`
  const full = openSync(filler, 'w')
  assert.throws(() => {
    for (;;) writeSync(full, Buffer.alloc(1000))
  }, /ENOSPC/)
  closeSync(full)
  const { output } = outputOn(file)
  for (let index = 0; index < 10; index += 1) output.write(lineOf(index))
  const dropped = output.dropped()
  rmSync(filler)
  output.write('after\n')

  assert.ok(dropped > 0)
  assert.deepEqual(readFileSync(path, 'utf8').split('\n').slice(-3), ['after', `dropped ${dropped}`, ''])
})

test('a file gets every line', async (t) => {
  const path = join(await temporaryFolder(t), 'log')
  const file = openSync(path, 'a')
  t.after(() => closeSync(file))
  const { output } = outputOn(file)
  for (let index = 0; index < MORE_THAN_WAITS; index += 1) output.write(lineOf(index))
  assert.equal(readFileSync(path, 'utf8').split('\n').length, MORE_THAN_WAITS + 1)
  assert.equal(output.dropped(), 0)
})
