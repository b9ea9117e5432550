import { createServer } from 'node:http'
import { json } from 'node:stream/consumers'
import type { TestContext } from 'node:test'
import { z } from 'zod'
import { eventually } from './gateway.ts'
import { listenOn } from './ports.ts'

const attribute = z.object({ key: z.string(), value: z.record(z.string(), z.unknown()) })
const spanSchema = z.object({
  traceId: z.string(),
  spanId: z.string(),
  parentSpanId: z.string().optional(),
  name: z.string(),
  kind: z.number(),
  attributes: z
    .array(attribute)
    .transform((all) => Object.fromEntries(all.map(({ key, value }) => [key, Object.values(value)[0]]))),
  status: z.object({ code: z.number().optional() }),
})
const requestSchema = z.object({
  resourceSpans: z.array(
    z.object({
      resource: z.object({ attributes: z.array(attribute) }),
      scopeSpans: z.array(z.object({ spans: z.array(spanSchema) })),
    }),
  ),
})

/** The OTLP span kind of a received request. */
const SERVER = 2

export type CollectedSpan = z.output<typeof spanSchema>

/** An OpenTelemetry collector that receives OTLP over HTTP as JSON. */
export const startCollector = async (t: TestContext) => {
  const spans: CollectedSpan[] = []
  const bodies: string[] = []
  const server = createServer(async (req, res) => {
    const body = await json(req)
    bodies.push(JSON.stringify(body))
    const { resourceSpans } = requestSchema.parse(body)
    spans.push(...resourceSpans.flatMap(({ scopeSpans }) => scopeSpans.flatMap((scope) => scope.spans)))
    res.setHeader('content-type', 'application/json').end(req.url === '/v1/traces' ? '{}' : undefined)
  })
  const url = `http://127.0.0.1:${await listenOn(t, server)}`
  return {
    url,
    bodies,
    /** All spans of a trace, once at least `count` have arrived. The server span is among them; it ends last. */
    trace: (traceId: string, count: number): Promise<readonly CollectedSpan[]> =>
      eventually(() => {
        const found = spans.filter((span) => span.traceId === traceId)
        return found.length >= count && found.some(({ kind }) => kind === SERVER) ? found : undefined
      }),
  }
}
