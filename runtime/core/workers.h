/* Threads that work ahead of a consumer: started with all signals blocked, and waited for with a timeout. */
#ifndef CLD_CORE_WORKERS_H
#define CLD_CORE_WORKERS_H

#include <pthread.h>
#include <stdbool.h>

/* pthread_create, with all signals left to the existing threads. Returns 0, or the reason. */
int cld_start_worker(pthread_t *thread, void *(*work)(void *), void *argument);
/* A condition that cld_wait_for can wait for. */
void cld_condition_init(pthread_cond_t *condition);
/* Waits, with the lock held, until the condition is signalled or `seconds` have passed. */
void cld_wait_for(pthread_cond_t *condition, pthread_mutex_t *lock, double seconds);
/* Whether a caught signal has come, or a stop was requested (process.h): waiting code checks this now and then. */
bool cld_is_signalled(void);

#endif
