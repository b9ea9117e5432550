import { after } from 'node:test'

// Loaded before the tests: limits on time end a test, but not a process whose tests are over and which something that
// one of them left behind keeps alive.
const GRACE_MS = 30_000

const endProcess = (): never => {
  process.stderr.write(`open after the last test: ${process.getActiveResourcesInfo().join(', ')}\n`)
  process.exit(1)
}

const isOfOneFile = process.env.NODE_TEST_CONTEXT !== undefined
if (isOfOneFile) after(() => setTimeout(endProcess, GRACE_MS).unref())
