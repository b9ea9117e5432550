import { createSandbox, type Sandbox } from '../src/server.ts'

const DEFAULT_PORT = 8089
const SEEDED_TASKS = 5
/** Long enough to try something by hand before a task ends by itself. */
const EXECUTING_MS = 60 * 60_000

const parsePort = (text: string): number => {
  const port = Number(text)
  if (/^\d+$/.test(text) && port <= 65_535) return port
  throw new Error(`SANDBOX_PORT must be a port from 0 to 65535, not "${text}"`)
}

const guide = (sandbox: Sandbox, accessKeyId: string, accessKeySecret: string): string => `\
Domain API sandbox on ${sandbox.url}

Tasks that can be cancelled:
${Array.from({ length: SEEDED_TASKS }, (_, index) => `  ${sandbox.addTask({ domains: [`example-${index + 1}.com`] })}`).join('\n')}

Point a gateway at it:
  UPSTREAM_URL=${sandbox.url}
  ALIBABA_CLOUD_ACCESS_KEY_ID=${accessKeyId}
  ALIBABA_CLOUD_ACCESS_KEY_SECRET=${accessKeySecret}

Let the next cancellation never be answered:
  curl -X POST ${sandbox.url}/sandbox/faults -d '{"action":"CancelTask","fault":{"reply":"stall","effect":true}}'
`

const start = async (): Promise<void> => {
  const {
    SANDBOX_PORT = String(DEFAULT_PORT),
    SANDBOX_HOST = '127.0.0.1',
    SANDBOX_ACCESS_KEY_ID: accessKeyId = 'sandbox-key-id',
    SANDBOX_ACCESS_KEY_SECRET: accessKeySecret = 'sandbox-key-secret',
  } = process.env
  const sandbox = await createSandbox({
    accessKeyId,
    accessKeySecret,
    port: parsePort(SANDBOX_PORT),
    host: SANDBOX_HOST,
    executingMs: EXECUTING_MS,
    control: true,
  })
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => void sandbox.close())
  // A program such as `head` closes the pipe. The sandbox still serves requests.
  process.stdout.on('error', () => {})
  process.stdout.write(guide(sandbox, accessKeyId, accessKeySecret))
}

start().catch((error: unknown) => {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`)
  process.exitCode = 1
})
