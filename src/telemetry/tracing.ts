/** What a span tells: names of OpenTelemetry's conventions where there is one. Nothing secret, and no address. */
export type Attributes = Readonly<Record<string, string | number | boolean>>

export interface Span {
  set(attributes: Attributes): void
  /** It did not do what it is for, and of which kind that is. */
  fail(type: string): void
}

export interface Tracer {
  /** Does the work within a span of that name, under the one that is under way. */
  span<T>(name: string, kind: 'internal' | 'client', work: (span: Span) => Promise<T>): Promise<T>
}

/** A request, from its head to the end of its answer. */
export interface RequestSpan extends Span {
  readonly traceId: string
  /** Runs what belongs to it. */
  run(work: () => void): void
  end(name: string): void
}

export interface Tracing extends Tracer {
  /**
   * Continues the caller's trace where `traceparent` names one (W3C Trace Context), or begins another.
   * @param isAlwaysRecorded records the request even where its caller does not record that trace
   */
  request(headers: Readonly<Record<string, string | string[] | undefined>>, isAlwaysRecorded: boolean): RequestSpan
  /** Sends what is still to be sent. */
  close(): Promise<void>
}

const NO_SPAN: Span = { set: () => undefined, fail: () => undefined }

/** Where nothing is traced. */
export const NO_TRACER: Tracer = { span: (_name, _kind, work) => work(NO_SPAN) }
