`timescale 1 ns / 1 ps

// A whole sample, kept while its positions pass by once more.
//
// When the last beat of a sample comes, what was gathered of it is kept, and in the BEATS cycles that follow what came
// beside its beats goes out, in a row. The last beat of the next sample cannot come before the last of these cycles, so
// that nothing is overwritten before it has been used, whatever the pace at which beats come: beat n of the next sample
// comes in the cycle in which beat n of this one is read, or later.
module recall #(
    parameter WHOLE = 8,    // bits of what is gathered
    parameter WIDTH = 8,    // bits of what comes beside each beat
    parameter BEATS = 1
) (
    input clk,
    input resetn,
    input valid_in,
    input is_last,
    input [WHOLE-1:0] whole_in,  // complete with the last beat
    input [WIDTH-1:0] data_in,
    output valid_out,
    output [WHOLE-1:0] whole_out,
    output [WIDTH-1:0] data_out
);
    reg [WIDTH-1:0] memory [0:BEATS-1];
    reg [$clog2(BEATS+1)-1:0] written, read;
    reg [WHOLE-1:0] kept;
    reg is_reading;
    wire is_complete = valid_in && is_last;
    wire is_end = read == BEATS - 1;

    assign valid_out = is_reading;
    assign whole_out = kept;
    assign data_out = memory[read];

    always @(posedge clk) begin
        if (valid_in) memory[written] <= data_in;
        if (is_complete) kept <= whole_in;
        if (!resetn) begin
            written <= 0;
            read <= 0;
            is_reading <= 0;
        end else begin
            if (valid_in) written <= is_last ? 0 : written + 1'b1;
            if (is_reading) read <= is_end ? 0 : read + 1'b1;
            is_reading <= is_complete || (is_reading && !is_end);
        end
    end
endmodule
