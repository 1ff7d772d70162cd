`timescale 1 ns / 1 ps

// The windows of a convolution over an image whose pixels come one by one, row by row.
//
// Pixels shift through a line of KERNEL_ROWS - 1 image rows and a few registers. A window belongs to one pixel, its
// anchor in row PADDING_ROWS and column PADDING_COLUMNS of the window, and is complete LAG shifts after the anchor came.
// Windows over the edge reach into pixels of another row or image, which are masked with zeros. If nothing follows an
// image, empty beats push its last windows out; they are told from pixels by a bit that shifts along. A sequence is an
// image of one row.
//
// Needs 2 * PADDING < KERNEL, so that there is at most one window for each pixel.
module window #(
    parameter WIDTH = 8,    // bits of a pixel, all channels
    parameter ROWS = 4,
    parameter COLUMNS = 4,
    parameter KERNEL_ROWS = 3,
    parameter KERNEL_COLUMNS = 3,
    parameter PADDING_ROWS = 0,
    parameter PADDING_COLUMNS = 0,
    parameter STRIDE_ROWS = 1,
    parameter STRIDE_COLUMNS = 1
) (
    input clk,
    input resetn,
    input valid_in,
    input [WIDTH-1:0] data_in,
    output shift,           // a pixel or an empty beat moves everything on by one
    output valid_out,
    output [KERNEL_ROWS*KERNEL_COLUMNS*WIDTH-1:0] data_out  // by row, then column of the window
);
    localparam BELOW = KERNEL_ROWS - 1 - PADDING_ROWS;  // rows of the window below the anchor
    localparam RIGHT = KERNEL_COLUMNS - 1 - PADDING_COLUMNS;
    localparam LAG = BELOW * COLUMNS + RIGHT;
    localparam COLUMN = KERNEL_ROWS * WIDTH;

    reg [$clog2(ROWS+1)-1:0] row;  // of the anchor
    reg [$clog2(COLUMNS+1)-1:0] column;
    wire is_pixel;                 // at the anchor
    wire is_pending;               // pixels that have not been an anchor yet
    wire is_between, is_last;      // images
    wire [COLUMN-1:0] newest;      // the newest column of the window, top to bottom
    wire [KERNEL_COLUMNS*COLUMN-1:0] columns;  // the oldest column first

    wire [ROWS-1:0] is_window_row;  // constants, so that no stride needs a division
    wire [COLUMNS-1:0] is_window_column;

    assign shift = valid_in || (is_pending && is_between);
    assign valid_out = shift && is_pixel && is_window_row[row] && is_window_column[column];

    beat_counter #(.BEATS(ROWS * COLUMNS)) received (
        .clk(clk), .resetn(resetn), .valid(valid_in), .is_first(is_between), .is_last(is_last)
    );

    always @(posedge clk) begin
        if (!resetn) begin
            row <= 0;
            column <= 0;
        end else if (shift && is_pixel) begin
            column <= column == COLUMNS - 1 ? 0 : column + 1'b1;
            if (column == COLUMNS - 1) row <= row == ROWS - 1 ? 0 : row + 1'b1;
        end
    end

    genvar i, j;
    generate
        for (i = 0; i < ROWS; i = i + 1) begin : rows
            assign is_window_row[i] = i % STRIDE_ROWS == 0 && i + KERNEL_ROWS <= ROWS + 2 * PADDING_ROWS;
        end
        for (i = 0; i < COLUMNS; i = i + 1) begin : image_columns
            assign is_window_column[i] =
                i % STRIDE_COLUMNS == 0 && i + KERNEL_COLUMNS <= COLUMNS + 2 * PADDING_COLUMNS;
        end

        if (LAG == 0) begin : point
            assign is_pixel = valid_in;
            assign is_pending = 1'b0;
        end else begin : area
            reg [LAG-1:0] are_pixels;

            assign is_pixel = are_pixels[LAG-1];
            assign is_pending = |are_pixels;

            always @(posedge clk) begin
                if (!resetn) are_pixels <= 0;
                else if (shift) are_pixels <= LAG == 1 ? valid_in : {are_pixels, valid_in};
            end
        end

        assign newest[COLUMN-WIDTH +: WIDTH] = data_in;
        if (KERNEL_ROWS > 1) begin : rows_above
            reg [COLUMN-WIDTH-1:0] lines [0:COLUMNS-1];
            reg [$clog2(COLUMNS+1)-1:0] place;

            assign newest[0 +: COLUMN-WIDTH] = lines[place];

            always @(posedge clk) begin
                if (shift) lines[place] <= newest[WIDTH +: COLUMN-WIDTH];
                if (!resetn) place <= 0;
                else if (shift) place <= place == COLUMNS - 1 ? 0 : place + 1'b1;
            end
        end

        assign columns[(KERNEL_COLUMNS-1)*COLUMN +: COLUMN] = newest;
        if (KERNEL_COLUMNS > 1) begin : columns_before
            reg [(KERNEL_COLUMNS-1)*COLUMN-1:0] earlier;

            assign columns[0 +: (KERNEL_COLUMNS-1)*COLUMN] = earlier;

            always @(posedge clk) if (shift) earlier <= columns[COLUMN +: (KERNEL_COLUMNS-1)*COLUMN];
        end

        for (i = 0; i < KERNEL_ROWS; i = i + 1) begin : window_rows
            for (j = 0; j < KERNEL_COLUMNS; j = j + 1) begin : window_columns
                wire is_row = PADDING_ROWS == 0 || (row + i >= PADDING_ROWS && row + i < ROWS + PADDING_ROWS);
                wire is_column = PADDING_COLUMNS == 0
                    || (column + j >= PADDING_COLUMNS && column + j < COLUMNS + PADDING_COLUMNS);
                assign data_out[(i*KERNEL_COLUMNS+j)*WIDTH +: WIDTH] =
                    columns[(j*KERNEL_ROWS+i)*WIDTH +: WIDTH] & {WIDTH{is_row && is_column}};
            end
        end
    endgenerate
endmodule
