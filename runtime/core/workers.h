/* Threads that work ahead of a consumer: started without signals, and waited for by the clock. */
#ifndef CLD_CORE_WORKERS_H
#define CLD_CORE_WORKERS_H

#include <pthread.h>
#include <stdbool.h>

/* pthread_create, with every signal left to the threads that were there before. 0, or the reason. */
int cld_start_worker(pthread_t *thread, void *(*work)(void *), void *argument);
/* A condition that cld_wait_for can wait for. */
void cld_condition_init(pthread_cond_t *condition);
/* With the lock held: until it is signalled, or so many seconds have passed. */
void cld_wait_for(pthread_cond_t *condition, pthread_mutex_t *lock, double seconds);
/* Whether a signal came while they were caught, or what runs is to stop (process.h): whoever waits looks now and then. */
bool cld_is_signalled(void);

#endif
