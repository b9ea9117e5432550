import { after } from 'node:test'

// Loaded before the tests. Test timeouts do not end a process that an open handle keeps alive after the last test.
const GRACE_MS = 30_000

const endProcess = (): never => {
  process.stderr.write(`open after the last test: ${process.getActiveResourcesInfo().join(', ')}\n`)
  process.exit(1)
}

const isOfOneFile = process.env.NODE_TEST_CONTEXT !== undefined
if (isOfOneFile) after(() => setTimeout(endProcess, GRACE_MS).unref())
