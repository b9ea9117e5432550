import { enableCompileCache } from 'node:module'
import { fileURLToPath } from 'node:url'

// Loaded before the tests. Without the cache, each test process, the threads of its gateways and its child processes
// strip and compile the same modules again. Node reads the variable at the start of a process, and the test runner
// starts a test process without this file: the variable is for threads and child processes, the call for the process.
process.env.NODE_COMPILE_CACHE ??= fileURLToPath(new URL('../../node_modules/.cache/node', import.meta.url))
enableCompileCache(process.env.NODE_COMPILE_CACHE)
