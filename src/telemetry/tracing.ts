/** Attributes of a span, named after OpenTelemetry's conventions. No secret and no address is among them. */
export type Attributes = Readonly<Record<string, string | number | boolean>>

export interface Span {
  set(attributes: Attributes): void
  /** The work failed; `type` is the kind of failure. */
  fail(type: string): void
}

export interface Tracer {
  /** Does the work within a span of that name, under the one that is under way. */
  span<T>(name: string, kind: 'internal' | 'client', work: (span: Span) => Promise<T>): Promise<T>
}

/** A request, from its head to the end of its answer. */
export interface RequestSpan extends Span {
  readonly traceId: string
  /** Runs work within the span. */
  run(work: () => void): void
  end(name: string): void
}

export interface Tracing extends Tracer {
  /**
   * Continues the caller's trace where `traceparent` names one (W3C Trace Context), or begins another.
   * @param isAlwaysRecorded records the request even where its caller does not record that trace
   */
  request(headers: Readonly<Record<string, string | string[] | undefined>>, isAlwaysRecorded: boolean): RequestSpan
  /** Sends the remaining spans. */
  close(): Promise<void>
}

const NO_SPAN: Span = { set: () => undefined, fail: () => undefined }

export const NO_TRACER: Tracer = { span: (_name, _kind, work) => work(NO_SPAN) }
