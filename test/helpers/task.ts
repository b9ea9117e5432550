import type { Task } from '../../src/alibaba/task-schemas.ts'

/** A task as the domain sees it, where the test says nothing else. */
export const taskOf = (changes: Partial<Task> = {}): Task => ({
  taskNo: 't',
  type: null,
  typeDescription: null,
  status: 'executing',
  cancelStatus: 'none',
  domainCount: 1,
  createdAtMs: null,
  clientIp: null,
  ...changes,
})
