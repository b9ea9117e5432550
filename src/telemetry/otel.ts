import { AsyncLocalStorage } from 'node:async_hooks'
import {
  type Context,
  defaultTextMapGetter,
  type Span as OtelSpan,
  ROOT_CONTEXT,
  SpanKind,
  SpanStatusCode,
  TraceFlags,
  trace,
} from '@opentelemetry/api'
import { W3CTraceContextPropagator } from '@opentelemetry/core'
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http'
import { resourceFromAttributes } from '@opentelemetry/resources'
import { AlwaysOnSampler, ParentBasedSampler, TracerProvider } from '@opentelemetry/sdk-trace'
import { describeError, type Log } from './log.ts'
import type { Meter } from './meter.ts'
import { createSpanExport } from './span-export.ts'
import type { Span, Tracing } from './tracing.ts'

export interface OtelOptions {
  /** Base address of a collector that takes OTLP over HTTP. */
  readonly endpoint: URL
  readonly instanceId: string
  /** How soon a span is sent at the latest, in milliseconds. */
  readonly delayMs?: number | undefined
  /** One request to the collector, in milliseconds. */
  readonly timeoutMs?: number | undefined
  readonly log: Log
  readonly meter: Pick<Meter, 'spans'>
}

const NAME = 'domain-task-gateway'
const DELAY_MS = 5000
const TIMEOUT_MS = 5000

const KINDS = { internal: SpanKind.INTERNAL, client: SpanKind.CLIENT } as const

/** Spans for a collector. Nothing is put where other code of the process would find it: the context is our own. */
export const createTracing = (options: OtelOptions): Tracing => {
  const { endpoint, instanceId, delayMs = DELAY_MS, timeoutMs = TIMEOUT_MS, log, meter } = options
  const exporter = new OTLPTraceExporter({ url: tracesUrl(endpoint), timeoutMillis: timeoutMs })
  const provider = new TracerProvider({
    resource: resourceFromAttributes({ 'service.name': NAME, 'service.instance.id': instanceId }),
    sampler: new ParentBasedSampler({ root: new AlwaysOnSampler() }),
    spanProcessors: [createSpanExport({ exporter, delayMs, timeoutMs: 2 * timeoutMs, log, meter })],
  })
  const tracer = provider.getTracer(NAME)
  const propagator = new W3CTraceContextPropagator()
  const active = new AsyncLocalStorage<Context>()

  return {
    span: async (name, kind, work) => {
      const parent = active.getStore() ?? ROOT_CONTEXT
      const span = tracer.startSpan(name, { kind: KINDS[kind] }, parent)
      try {
        return await active.run(trace.setSpan(parent, span), () => work(spanOf(span)))
      } catch (error) {
        spanOf(span).fail(String(describeError(error).errorName))
        throw error
      } finally {
        span.end()
      }
    },

    request: (headers, isAlwaysRecorded) => {
      const extracted = propagator.extract(ROOT_CONTEXT, headers, defaultTextMapGetter)
      const parent = isAlwaysRecorded ? asSampled(extracted) : extracted
      const span = tracer.startSpan('request', { kind: SpanKind.SERVER }, parent)
      return {
        ...spanOf(span),
        traceId: span.spanContext().traceId,
        run: (work) => active.run(trace.setSpan(parent, span), work),
        end: (name) => void span.updateName(name).end(),
      }
    },

    close: () => provider.shutdown(),
  }
}

/** The same parent, as if its caller recorded the trace. */
const asSampled = (parent: Context): Context => {
  const caller = trace.getSpanContext(parent)
  return caller === undefined
    ? parent
    : trace.setSpanContext(parent, { ...caller, traceFlags: caller.traceFlags | TraceFlags.SAMPLED })
}

/** As the specification of the exporter builds it from the base address. */
const tracesUrl = (endpoint: URL): string => `${endpoint.href.replace(/\/$/, '')}/v1/traces`

const spanOf = (span: OtelSpan): Span => ({
  set: (attributes) => void span.setAttributes(attributes),
  fail: (type) => {
    span.setAttribute('error.type', type)
    span.setStatus({ code: SpanStatusCode.ERROR })
  },
})
