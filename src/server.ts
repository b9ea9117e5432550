import { readFileSync } from 'node:fs'
import dotenv from 'dotenv'
import { parseConfig } from './config.ts'
import { deadlineIn } from './deadline.ts'
import { ConfigError } from './errors.ts'
import { createGateway } from './gateway.ts'
import { createLog, describeError } from './telemetry/log.ts'

const run = async (): Promise<void> => {
  dotenv.config({ quiet: true, override: false })
  const config = parseConfig(process.env, (path) => readFileSync(path, 'utf8'))
  const log = createLog(config.logLevel)
  process.on('uncaughtException', (error) => {
    log.error('a bug ends the process', describeError(error))
    process.exit(1)
  })

  const gateway = await createGateway(config, { log })
  const listener = await gateway.listen()

  const stop = async (signal: NodeJS.Signals): Promise<void> => {
    const { delayMs, graceMs } = config.shutdown
    log.info('stopping', { signal })
    const deadline = deadlineIn(delayMs + graceMs)
    setTimeout(() => {
      log.error('the grace period is over, leaving what is not finished')
      process.exit(1)
    }, deadline.remainingMs()).unref()
    await listener.drain(delayMs)
    await gateway.close(deadline.earlier(1000))
    log.info('stopped')
  }
  process.once('SIGTERM', (signal) => void stop(signal))
  process.once('SIGINT', (signal) => void stop(signal))
}

run().catch((error: unknown) => {
  // A ConfigError names settings and rules only; what else can happen here may quote more than that.
  const reason = error instanceof ConfigError ? error.message : JSON.stringify(describeError(error))
  process.stderr.write(`The gateway did not start. ${reason}\n`)
  process.exit(1)
})
