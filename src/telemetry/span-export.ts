import { TraceFlags } from '@opentelemetry/api'
import { type ExportResult, ExportResultCode } from '@opentelemetry/core'
import { BatchSpanProcessor, type SpanExporter, type SpanProcessor } from '@opentelemetry/sdk-trace'
import { describeError, type Log, type LogFields } from './log.ts'
import type { Meter } from './meter.ts'

export interface SpanExportOptions {
  readonly exporter: SpanExporter
  /** How soon a span is sent at the latest, in milliseconds. */
  readonly delayMs: number
  /** One request to the collector with its repetitions, in milliseconds. */
  readonly timeoutMs: number
  readonly log: Log
  readonly meter: Pick<Meter, 'spans'>
}

/** Spans that wait to be sent; more are dropped. */
export const QUEUE_MAX = 2048

const SETTING = 'OTEL_EXPORTER_OTLP_ENDPOINT'

/** Sends spans in batches, counts the result of each, and logs when the collector starts and stops refusing them. */
export const createSpanExport = (options: SpanExportOptions): SpanProcessor => {
  const { exporter, delayMs: scheduledDelayMillis, timeoutMs, log, meter } = options
  let queued = 0
  let isRefused = false

  const finish = (count: number, { code, error }: ExportResult): void => {
    const isExported = code === ExportResultCode.SUCCESS
    meter.spans(isExported ? 'exported' : 'failed', count)
    if (isExported && isRefused) log.info('the trace collector accepts spans again', { setting: SETTING })
    if (!isExported && !isRefused) {
      log.warn('the trace collector does not accept spans; they are lost', { setting: SETTING, ...failureOf(error) })
    }
    isRefused = !isExported
  }

  const counting: SpanExporter = {
    export: (spans, done) => {
      queued -= spans.length
      // The exporter's own timeout begins anew with each byte of a response.
      const once = createOnce((result: ExportResult) => {
        clearTimeout(timer)
        finish(spans.length, result)
        done(result)
      })
      const timer = setTimeout(() => once({ code: ExportResultCode.FAILED, error: new Late() }), timeoutMs).unref()
      exporter.export(spans, once)
    },
    shutdown: () => exporter.shutdown(),
  }

  const processor = new BatchSpanProcessor({ exporter: counting, maxQueueSize: QUEUE_MAX, scheduledDelayMillis })
  return {
    onStart: (span, parent) => processor.onStart(span, parent),
    onEnd: (span) => {
      if ((span.spanContext().traceFlags & TraceFlags.SAMPLED) === 0) return
      if (queued >= QUEUE_MAX) {
        meter.spans('dropped', 1)
        return
      }
      queued += 1
      processor.onEnd(span)
    },
    forceFlush: () => processor.forceFlush(),
    shutdown: () => processor.shutdown(),
  }
}

class Late extends Error {}

const createOnce = <T>(use: (value: T) => void): ((value: T) => void) => {
  let isUsed = false
  return (value) => {
    if (isUsed) return
    isUsed = true
    use(value)
  }
}

/** The status or network code in an exporter's error, or neither. Its text comes from the collector: not logged. */
const failureOf = (error: unknown): LogFields => {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  if (typeof code === 'number') return { reason: 'it refuses them', status: code }
  const { errorCode } = describeError(error)
  if (typeof errorCode === 'string') return { reason: 'it cannot be reached', errorCode }
  const isThrottled = error instanceof Error && error.name === 'OTLPExporterError'
  return { reason: isThrottled ? 'it throttles or is unavailable (429, 502, 503 or 504)' : 'it takes too long' }
}
