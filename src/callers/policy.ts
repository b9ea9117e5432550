import type { Grant } from './caller.ts'
import { coversDomain, toDomain } from './domain-names.ts'

/** What a task does to one domain, as upstream tells it. */
export interface TaskPart {
  readonly taskNo: string
  readonly detailNo: string | null
  readonly type: string | null
  readonly domain: string | null
}

/** All that a task does, as far as it was read. */
export interface TaskContents {
  readonly taskNo: string
  readonly details: readonly TaskPart[]
  /** How many details there are, as each page said that was read. */
  readonly totals: readonly number[]
}

export type Restrictions = Pick<Grant, 'domains' | 'taskTypes'>

/** What a grant lets its holder touch. */
export interface Policy {
  /** Whether it depends on the task at all. */
  isRestricted(restrictions: Restrictions): boolean
  /** Whether some of these details alone show that their task is outside, whatever else there is. */
  excludes(restrictions: Restrictions, details: readonly TaskPart[]): boolean
  /** Whether all of a task is known and inside the restrictions. */
  allows(restrictions: Restrictions, task: TaskContents): boolean
}

export const isRestricted: Policy['isRestricted'] = ({ domains, taskTypes }) => domains !== null || taskTypes !== null

export const excludes: Policy['excludes'] = (restrictions, details) =>
  !details.every((detail) => isInside(restrictions, detail))

export const allows: Policy['allows'] = (restrictions, task) =>
  // Every one of no details would be inside.
  task.details.length > 0 && isWhole(task) && !excludes(restrictions, task.details)

/** A detail that was read twice stands where another should. */
const isWhole = ({ taskNo, details, totals }: TaskContents): boolean =>
  details.every((detail) => detail.taskNo === taskNo) &&
  new Set(details.map(({ detailNo }) => detailNo)).size === details.length &&
  totals.every((total) => total === details.length)

/** What names no domain is known too little, whatever the restriction. */
const isInside = ({ domains, taskTypes }: Restrictions, { type, domain }: TaskPart): boolean =>
  domain !== null &&
  domain !== '' &&
  (taskTypes === null || (type !== null && taskTypes.includes(type))) &&
  (domains === null || isCovered(domains, domain))

const isCovered = (patterns: readonly string[], text: string): boolean => {
  const domain = toDomain(text)
  return domain !== null && patterns.some((pattern) => coversDomain(pattern, domain))
}
