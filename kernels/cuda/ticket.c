/* The counters by which blocks find out which of them is last (ticket.cuh). */
#include "kernels/cuda/cuda.h"

static unsigned *tickets;

unsigned *cld_cuda_tickets(void) { return tickets; }

cld_status cld_cuda_open_tickets(void) {
    size_t bytes = 2 * CLD_TICKETS * sizeof *tickets;
    void *on_device;
    CLD_TRY(cld_cuda_malloc(&on_device, bytes));
    tickets = on_device;
    return cld_cuda_clear(tickets, bytes);
}
